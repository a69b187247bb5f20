// SPDX-License-Identifier: Apache-2.0
// What to map, as users write it: the key=value words of IBNBD and of the kernel's
// /sys/class/rnbd-client/ctl/map_device, in any order. Pure; any thread.
//
//   server=ip:ADDR|gid:GID              one path to ADDR, session name derived unless given
//   sessname=NAME                       session; without path= or server= one that exists already
//   path=DST | SRC@DST | SRC,DST        up to six; repeatable, or a list: SRC@DST,SRC@DST
//   dest_port=1..65535                  port of every DST, 1234; N,N… one for each in their order
//   device_path=NAME                    the server's name of the device; the only one always needed
//   access_mode=ro|rw|migration         rw
//   input_mode=mq|rq                    a queue for each CPU (mq), or one (rq)
//   io_mode=fileio|blockio              left out: as the server likes
//   device=/dev/nbdN                    the node to use; left out: a free one
//   on_no_path=queue|fail-after:N[s]    while no path is up requests wait (queue), or wait N
//   seconds
//                                       and then fail with EIO until one is
//   persist=yes|no                      mapped again after a reboot, until it is unmapped
//
// and of a session that does not exist yet:
//   mpath_policy=round-robin|min-inflight|min-latency, or rr, mi, ml: min-inflight
//   hb_interval_ms=10..60000, hb_missed_max=1..100: how soon a silent path is given up, 100 and 5
//   max_reconnect_attempts=-1..9999     in a row, for each path; -1: no end
//
// Addresses are ip:V4, ip:V6, ip:[V6] or gid:GID; a link-local V6 may name its interface (%eth0).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/map_defaults.h"
#include "common/result.h"
#include "common/rnbd_wire.h"
#include "transport/rtrs/path_policy.h"

namespace rnbd::client {

inline constexpr std::uint16_t kDefaultPort = 1234;
inline constexpr std::size_t kMaxPaths = 6;                    ///< of one mapping, as the kernel's
inline constexpr std::size_t kMaxName = wire::kNameField - 1;  ///< NUL not counted

enum class InputMode : std::uint8_t {
  MultiQueue,   ///< mq: a queue for each CPU
  SingleQueue,  ///< rq
};

/// One address pair. Addresses are in one spelling each: "ip:10.0.0.1", "ip:[fe80::1%eth0]",
/// "gid:fe80::1".
struct PathSpec {
  std::string source;  ///< empty: the kernel chooses
  std::string destination;
  std::uint16_t port = 0;  ///< 0: that of the mapping

  bool operator==(const PathSpec&) const = default;
};

struct MapRequest {
  std::string session_name;     ///< 1 to 254 bytes, no '/', '.' or blank
  std::vector<PathSpec> paths;  ///< empty: the session must exist (ENXIO if it does not)
  std::uint16_t port = kDefaultPort;
  std::string device_path;  ///< 1 to 254 bytes
  wire::AccessMode access_mode = wire::AccessMode::ReadWrite;
  InputMode input_mode = InputMode::MultiQueue;
  wire::IoMode io_mode = wire::IoMode::ServerDefault;
  std::optional<std::uint32_t> device_index;       ///< N of /dev/nbdN
  std::optional<std::chrono::seconds> fail_after;  ///< without a path; none: requests wait
  bool persist = false;                            ///< after a reboot too

  // Of a new session.
  rtrs::PathPolicy policy = rtrs::PathPolicy::MinInflight;
  std::chrono::milliseconds hb_interval{100};
  unsigned hb_missed_max = 5;
  int max_reconnect_attempts = -1;
};

/// Understands `words`. `hostname` is this host's, for the session name derived from server=.
/// `defaults` counts for what they do not say. EINVAL names the word that is wrong and, where one
/// is near, the right one.
Result<MapRequest> parse_map_words(std::span<const std::string> words, std::string_view hostname,
                                   const MapDefaults& defaults = {});

/// Where a server may be: server=, path= and dest_port=.
struct AddressWords {
  std::vector<PathSpec> paths;  ///< one at least
  std::uint16_t port = kDefaultPort;
};
Result<AddressWords> parse_address_words(std::span<const std::string> words);

/// What a session that exists can be told: on_no_path= (for all its devices), mpath_policy= and
/// max_reconnect_attempts=; one at least.
struct SessionWords {
  std::optional<std::optional<std::chrono::seconds>> fail_after;
  std::optional<rtrs::PathPolicy> policy;
  std::optional<int> max_reconnect_attempts;
};
Result<SessionWords> parse_session_words(std::span<const std::string> words);

/// The session name for server=`address` (a PathSpec's spelling): "hostname@10-0-0-1", dots and
/// colons turned into dashes. A port other than 1234 is added (":1235"), since another port is
/// another server. At most kMaxName bytes.
std::string derived_session_name(std::string_view hostname, std::string_view address,
                                 std::uint16_t port);

/// The words' names, for messages and lists: "ro", "rw", "migration".
std::string_view name_of(wire::AccessMode mode);
/// "blockio", "fileio"; "default" for the server's choice.
std::string_view name_of(wire::IoMode mode);
/// "round-robin", "min-inflight", "min-latency".
std::string_view name_of(rtrs::PathPolicy policy);

/// A policy by its name or its short form, in letters of either case. EINVAL.
Result<rtrs::PathPolicy> parse_policy(std::string_view text);

/// What the words may begin with, without '='.
std::span<const std::string_view> map_word_names();

}  // namespace rnbd::client
