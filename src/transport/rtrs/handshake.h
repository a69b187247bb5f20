// SPDX-License-Identifier: Apache-2.0
// Reading the messages by which a path comes up. Pure functions over a peer's bytes: whatever those
// are, the answer is a value that keeps its promises, or an error that says what was wrong.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/result.h"
#include "transport/fabric.h"
#include "transport/rtrs/wire.h"

namespace rnbd::rtrs {

/// What a server announces when it accepts (ConnectResponse).
struct ServerParameters {
  std::uint32_t queue_depth = 0;
  std::uint32_t max_io_size = 0;
  std::uint32_t max_header_size = 0;
  bool new_key = false;

  [[nodiscard]] std::uint32_t chunk_size() const { return max_io_size + max_header_size; }
  friend bool operator==(const ServerParameters&, const ServerParameters&) = default;
};

/// A server's view of a request to connect. Errors: ECONNRESET, as the kernel answers them.
Result<ConnectRequest> parse_connect_request(std::span<const std::byte> private_data);

/// A client's view of an accept. Errors: EPROTO, or the errno that the server put in.
Result<ServerParameters> parse_connect_response(std::span<const std::byte> private_data);

/// A client's view of a reject: why, as an errno.
Error parse_reject(std::span<const std::byte> private_data);

/// The session name of an INFO_REQ. Errors: EPROTO (size, type), EINVAL (a name that is empty, not
/// terminated, or holds '/' or '.').
Result<std::string> parse_info_request(std::span<const std::byte> message);

/// Where each chunk lies, chunk by chunk. Errors: EPROTO.
Result<std::vector<transport::RemoteMemory>> parse_info_response(
    std::span<const std::byte> message, const ServerParameters& parameters);

/// The rule for session names: not empty, shorter than the field, no '/' and no '.'.
bool valid_session_name(std::string_view name);

ConnectResponse make_reject(int error);  ///< `error` positive
ConnectResponse make_accept(const ServerParameters& parameters);

template <typename T>
std::span<const std::byte> bytes_of(const T& message) {
  return std::as_bytes(std::span(&message, 1));
}

}  // namespace rnbd::rtrs
