// SPDX-License-Identifier: Apache-2.0
// The words of `map`, for help, manual page and completion. A test compares them with the parser's
// (client/map_words.h), which the daemon has. Pure.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace rnbd::cli {

struct MapWord {
  std::string_view name;
  std::string_view value;   ///< "ro|rw"; capitals stand for something else
  std::string_view help;    ///< its default in brackets
  bool of_session = false;  ///< looked at only when the session does not exist yet
};

inline constexpr std::array kMapWords = {
    MapWord{"server", "ip:ADDR|gid:GID", "The server; names the session after this host and it"},
    MapWord{"sessname", "NAME",
            "The session, if it shall have another name; one that exists is used"},
    MapWord{"path", "[SRC@]DST",
            "Way to the server, with sessname; up to six, repeated or with commas"},
    MapWord{"dest_port", "PORT",
            "Port of the server [1234]; or one for each path=, in their order"},
    MapWord{"device_path", "NAME", "The server's name of the device; always needed"},
    MapWord{"access_mode", "ro|rw|migration", "migration may write beside another writer [rw]"},
    MapWord{"input_mode", "mq|rq", "A queue for each CPU, or one [mq]"},
    MapWord{"io_mode", "blockio|fileio",
            "The server uses O_DIRECT, or its page cache [its choice]"},
    MapWord{"device", "/dev/nbdN", "The node to use [a free one]"},
    MapWord{"on_no_path", "queue|fail-after:N", "Requests wait, or fail after N seconds [queue]"},
    MapWord{"persist", "yes|no", "Map it again after a reboot, until it is unmapped [no]"},
    MapWord{"mpath_policy", "round-robin|min-inflight|min-latency",
            "How a path is chosen [min-inflight]", true},
    MapWord{"max_reconnect_attempts", "N", "In a row, for each path; -1: no end [-1]", true},
    MapWord{"hb_interval_ms", "N", "Time between heartbeats [100]", true},
    MapWord{"hb_missed_max", "N", "Unanswered ones after which a path is given up [5]", true},
};

/// Their list, as the footer of `map --help`.
std::string map_words_text();

}  // namespace rnbd::cli
