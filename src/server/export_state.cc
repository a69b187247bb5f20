// SPDX-License-Identifier: Apache-2.0
#include "server/export_state.h"

#include <stdexcept>

namespace rnbd::server {
namespace {

NamedExport from_json(const control::Json& json) {
  NamedExport made{.name = json.at("name").get<std::string>(),
                   .path = json.at("path").get<std::string>()};
  const auto read_only = parse_export_access(json.at("access").get<std::string>());
  for (const Status& status : {check_export_name(made.name), check_export_path(made.path)}) {
    if (!status) throw std::invalid_argument(status.error().message);
  }
  if (!read_only) throw std::invalid_argument(read_only.error().message);
  made.read_only = *read_only;
  return made;
}

}  // namespace

control::Json state_of(const std::vector<NamedExport>& added) {
  control::Json list = control::Json::array();
  for (const NamedExport& one : added) {
    list.push_back(
        {{"name", one.name}, {"path", one.path}, {"access", access_name(one.read_only)}});
  }
  return {{"exports", std::move(list)}};
}

std::vector<NamedExport> exports_of_state(const control::Json& state) {
  std::vector<NamedExport> added;
  for (const control::Json& one : state.at("exports")) added.push_back(from_json(one));
  return added;
}

}  // namespace rnbd::server
