// SPDX-License-Identifier: Apache-2.0
#include "cli/udev_names.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rnbd::cli {
namespace {

constexpr std::string_view kPrefix = "rnbd:";

/// `also`: what may not stand for itself either.
std::string escaped(std::string_view text, std::string_view also) {
  constexpr std::string_view kPlain = "#+-.:=@_";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte < 0x80 && (std::isalnum(byte) != 0 || kPlain.contains(c));
    if (plain && !also.contains(c)) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", byte);
    }
  }
  return out;
}

/// "vol-part1" would be the name of vol's first partition.
bool ends_like_a_partition(std::string_view component) {
  const auto digits = component.find_last_not_of("0123456789") + 1;
  return digits < component.size() && component.substr(0, digits).ends_with("-part");
}

std::string escaped_component(std::string_view component, std::string_view also) {
  if (component == "." || component == "..") return escaped(component, ".");
  if (!ends_like_a_partition(component)) return escaped(component, also);
  const auto dash = component.rfind('-');
  return escaped(component.substr(0, dash), also) + escaped("-", "-") +
         escaped(component.substr(dash + 1), also);
}

std::vector<std::string_view> components_of(std::string_view path) {
  std::vector<std::string_view> components;
  while (!path.empty()) {
    const std::string_view component = path.substr(0, path.find('/'));
    if (!component.empty()) components.push_back(component);
    path.remove_prefix(std::min(path.size(), component.size() + 1));
  }
  return components;
}

}  // namespace

Result<UdevNames> udev_names(std::string_view backend) {
  const auto slash = backend.find('/');
  if (!backend.starts_with(kPrefix) || slash == std::string_view::npos || slash == kPrefix.size()) {
    return fail(EINVAL, "this is no backend of rnbd-client's: rnbd:SESSION/DEVICE");
  }
  const std::string_view session = backend.substr(kPrefix.size(), slash - kPrefix.size());
  const auto components = components_of(backend.substr(slash));
  if (components.empty()) return fail(EINVAL, "the backend has no device");
  UdevNames names{.name = escaped_component(session, {}), .id = escaped(session, ":")};
  for (const std::string_view component : components) {
    names.name += '/' + escaped_component(component, {});
    names.id += ':' + escaped_component(component, ":");
  }
  return names;
}

}  // namespace rnbd::cli
