// SPDX-License-Identifier: Apache-2.0
#include "common/control/messages.h"

#include <utility>

#include <fmt/format.h>

namespace rnbd::control {
namespace {

/// Null unless `object` has the member.
const Json* member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::string text(const Json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

int number(const Json* value) {
  if (value == nullptr || !value->is_number_unsigned()) return 0;
  const auto wide = value->get<std::uint64_t>();
  return std::in_range<int>(wide) ? static_cast<int>(wide) : 0;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

Failure not_a_reply(std::string_view why) {
  Failure failure = to_failure({EPROTO, fmt::format("cannot understand the daemon: {}", why)});
  failure.hint = "are the command and the daemon of the same version?";
  return failure;
}

Failure decode_failure(const Json& error) {
  Failure failure{{number(member(error, "errno")), text(member(error, "message"))},
                  ExitCode::Generic,
                  text(member(error, "hint"))};
  if (failure.error.code == 0) failure.error.code = EIO;
  const int exit = number(member(error, "exit"));
  failure.exit = exit >= 1 && exit <= kLastExitCode ? static_cast<ExitCode>(exit)
                                                    : exit_code(failure.error.code);
  return failure;
}

}  // namespace

Failure to_failure(Error error) {
  const ExitCode exit = exit_code(error.code);
  std::string hint;
  if (const auto newline = error.message.find('\n'); newline != std::string::npos) {
    hint = error.message.substr(newline + 1);
    error.message.resize(newline);
  }
  return {std::move(error), exit, std::move(hint)};
}

Json to_json(const Failure& failure) {
  Json json = {{"code", errno_name(failure.error.code)},
               {"errno", failure.error.code},
               {"exit", std::to_underlying(failure.exit)},
               {"message", failure.error.message}};
  if (!failure.hint.empty()) json["hint"] = failure.hint;
  return json;
}

Result<std::string> encode(const Request& request) {
  const Json json = {{"verb", request.verb}, {"args", request.args}};
  std::string line;
  try {
    line = json.dump() + '\n';
  } catch (const Json::type_error&) {
    return fail(EINVAL, "the words hold bytes that are not UTF-8");
  }
  if (line.size() > kMaxRequestLine) {
    return fail(EMSGSIZE, fmt::format("the words are longer than {} bytes", kMaxRequestLine));
  }
  return line;
}

std::string encode(const Outcome& outcome) {
  if (!outcome) return dump({{"ok", false}, {"error", to_json(outcome.error())}});
  std::string line = dump({{"ok", true}, {"result", *outcome}});
  if (line.size() <= kMaxReplyLine) return line;
  return encode(Outcome(std::unexpect, to_failure({EMSGSIZE, "the answer is too long"})));
}

Result<Request> decode_request(std::string_view line) {
  if (line.size() >= kMaxRequestLine) {
    return fail(EINVAL, fmt::format("a request may have {} bytes", kMaxRequestLine));
  }
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return fail(EINVAL, "a request is one JSON object on one line");
  Request request{text(member(json, "verb")), Json::object()};
  if (request.verb.empty()) return fail(EINVAL, "a request needs a verb, a string");
  if (const Json* args = member(json, "args")) {
    if (!args->is_object()) return fail(EINVAL, "the args of a request are an object");
    request.args = *args;
  }
  return request;
}

Outcome decode_reply(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return std::unexpected(not_a_reply("its answer is not a JSON object"));
  const Json* ok = member(json, "ok");
  if (ok == nullptr || !ok->is_boolean()) {
    return std::unexpected(not_a_reply("its answer does not say whether it succeeded"));
  }
  if (ok->get<bool>()) {
    const Json* result = member(json, "result");
    return result != nullptr ? *result : Json::object();
  }
  const Json* error = member(json, "error");
  if (error == nullptr || !error->is_object()) {
    return std::unexpected(not_a_reply("its answer does not say what failed"));
  }
  return std::unexpected(decode_failure(*error));
}

}  // namespace rnbd::control
