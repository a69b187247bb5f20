// SPDX-License-Identifier: Apache-2.0
// The messages by which a path comes up, of either side (transport/rtrs/handshake.h): what is taken
// for good keeps its promises.
#include "transport/rtrs/handshake.h"

#include <cstdint>
#include <string>

#include "common/assert.h"
#include "common/limits.h"
#include "fuzz/input.h"

using namespace rnbd;
using namespace rnbd::rtrs;

namespace {

void check_parameters(const ServerParameters& parameters) {
  RNBD_ASSERT(parameters.max_io_size > 0 && parameters.queue_depth > 0);
  RNBD_ASSERT(limits::chunks_fit(parameters.queue_depth, parameters.chunk_size()));
}

void client_reads(std::span<const std::byte> accept, std::span<const std::byte> info) {
  const auto parameters = parse_connect_response(accept);
  if (!parameters) {
    RNBD_ASSERT(parameters.error().code > 0 && !parameters.error().message.empty());
    return;
  }
  check_parameters(*parameters);
  if (const auto chunks = parse_info_response(info, *parameters)) {
    RNBD_ASSERT(chunks->size() == parameters->queue_depth);
    for (const auto& chunk : *chunks) {
      RNBD_ASSERT(chunk.address + parameters->chunk_size() >= chunk.address);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const auto first = input.bytes(sizeof(ConnectResponse));
  const auto rest = input.rest();
  if (const auto request = parse_connect_request(first)) {
    RNBD_ASSERT(request->magic == kMagic && request->cid < request->connections &&
                request->connections <= limits::kMaxConnections);
  }
  RNBD_ASSERT(parse_reject(first).code > 0);
  client_reads(first, rest);
  if (const auto name = parse_info_request(rest)) RNBD_ASSERT(valid_session_name(*name));
  return 0;
}
