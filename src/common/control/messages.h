// SPDX-License-Identifier: Apache-2.0
// The control socket's language: one JSON object a line over a Unix stream socket. Pure functions,
// any thread. What each verb takes and answers is in verbs.h.
//
//   request   {"verb":"map","args":{"words":["server=ip:10.0.0.1","device_path=vol1"]}}
//   success   {"ok":true,"result":{"device":"/dev/nbd0"}}
//   failure   {"ok":false,"error":{"code":"EEXIST","errno":17,"exit":3,"message":"…","hint":"…"}}
//
// `args` may be left out; `hint` says what to do and is there only if that is not obvious. Members
// that are not known are ignored, so that newer peers can add some. Requests on one connection are
// answered in order, one at a time; any number of connections may be open.
#pragma once

#include <cerrno>
#include <cstddef>
#include <expected>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "common/control/exit_codes.h"
#include "common/result.h"

namespace rnbd::control {

using Json = nlohmann::ordered_json;

/// Longest lines, newline included. Replies may list thousands of devices.
inline constexpr std::size_t kMaxRequestLine = 64UL * 1024;
inline constexpr std::size_t kMaxReplyLine = 16UL * 1024 * 1024;

struct Request {
  std::string verb;
  Json args = Json::object();
};

/// A daemon's answer while it hands over to the next one: nothing was done, and the next one may be
/// asked, once it listens.
inline constexpr int kBeingReplaced = ERESTART;

/// An error as a person or a script gets it.
struct Failure {
  Error error;
  ExitCode exit = ExitCode::Generic;
  std::string hint;  ///< one line saying what to do; mostly empty
};

using Outcome = std::expected<Json, Failure>;

/// A daemon's error for its client: the exit code follows from the errno, and what follows the
/// first newline of the message is the hint.
Failure to_failure(Error error);

/// {"code":"EEXIST","errno":17,"exit":3,"message":"…"}: also what --json prints inside "error".
Json to_json(const Failure& failure);

/// One line, newline included. EINVAL: text that is not UTF-8. EMSGSIZE: longer than a request
/// may be.
Result<std::string> encode(const Request& request);

/// One line, newline included. Never fails: a reply that would be too long becomes EMSGSIZE, and
/// bytes that are not UTF-8 become U+FFFD.
std::string encode(const Outcome& outcome);

/// `line` without its newline. EINVAL says what is wrong with it.
Result<Request> decode_request(std::string_view line);

/// `line` without its newline. EPROTO: not a reply of this protocol.
Outcome decode_reply(std::string_view line);

}  // namespace rnbd::control
