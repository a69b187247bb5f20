// SPDX-License-Identifier: Apache-2.0
#include "client/map_words.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "client/path_words.h"
#include "common/assert.h"
#include "common/words.h"

namespace rnbd::client {
namespace {

/// A value with a name of its own.
template <typename T>
using Choice = std::pair<std::string_view, T>;

constexpr std::array kAccessModes = {
    Choice<wire::AccessMode>{"ro", wire::AccessMode::ReadOnly},
    Choice<wire::AccessMode>{"rw", wire::AccessMode::ReadWrite},
    Choice<wire::AccessMode>{"migration", wire::AccessMode::Migration}};
constexpr std::array kInputModes = {Choice<InputMode>{"mq", InputMode::MultiQueue},
                                    Choice<InputMode>{"rq", InputMode::SingleQueue}};
constexpr std::array kIoModes = {Choice<wire::IoMode>{"fileio", wire::IoMode::FileIo},
                                 Choice<wire::IoMode>{"blockio", wire::IoMode::BlockIo}};

// The names in front: a value is called by the first that fits.
constexpr std::array kPolicies = {
    Choice<rtrs::PathPolicy>{"round-robin", rtrs::PathPolicy::RoundRobin},
    Choice<rtrs::PathPolicy>{"min-inflight", rtrs::PathPolicy::MinInflight},
    Choice<rtrs::PathPolicy>{"min-latency", rtrs::PathPolicy::MinLatency},
    Choice<rtrs::PathPolicy>{"rr", rtrs::PathPolicy::RoundRobin},
    Choice<rtrs::PathPolicy>{"mi", rtrs::PathPolicy::MinInflight},
    Choice<rtrs::PathPolicy>{"ml", rtrs::PathPolicy::MinLatency}};

constexpr std::array kPersist = {Choice<bool>{"yes", true}, Choice<bool>{"no", false}};

constexpr std::string_view kQueue = "queue";
constexpr std::string_view kFailAfter = "fail-after:";
constexpr std::uint32_t kLongestFailAfter = 24 * 3600;

constexpr std::string_view kNode = "/dev/nbd";
constexpr std::uint32_t kMaxIndex = (1U << 20) - 1;  // minors have 20 bits

template <typename T, std::size_t N>
Status choose(std::string_view value, const std::array<Choice<T>, N>& choices, T& out) {
  std::vector<std::string_view> names;
  for (const auto& [name, choice] : choices) {
    if (name == value) {
      out = choice;
      return {};
    }
    names.push_back(name);
  }
  return fail(EINVAL, fmt::format("must be one of {}{}", fmt::join(names, ", "),
                                  did_you_mean(value, names)));
}

template <typename T, std::size_t N>
std::string_view name_in(T value, const std::array<Choice<T>, N>& choices) {
  const auto found = std::ranges::find(choices, value, &Choice<T>::second);
  return found == choices.end() ? "default" : found->first;
}

template <typename T>
std::optional<T> parse_number(std::string_view text) {
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Status check_name(std::string_view name) {
  if (name.empty()) return fail(EINVAL, "must not be empty");
  if (name.size() > kMaxName) {
    return fail(EINVAL, fmt::format("has {} bytes; {} are possible", name.size(), kMaxName));
  }
  return {};
}

/// What the words say, before they are checked against each other.
struct Words {
  MapRequest request;
  std::string server;  ///< an address, or empty
  std::vector<std::uint16_t> ports;
};

Status set_session(std::string_view value, Words& words) {
  if (auto named = check_name(value); !named) return named;
  if (value.find_first_of("/.") != std::string_view::npos) {
    return fail(EINVAL, "a session's name has no '/' and no '.'");
  }
  if (value.contains(' ')) {
    return fail(EINVAL, "a session's name has no blanks; give each word as an argument of its own");
  }
  words.request.session_name = value;
  return {};
}

Status set_server(std::string_view value, Words& words) {
  auto address = parse_address(value);
  if (!address) return fail(std::move(address.error()));
  words.server = std::move(*address);
  return {};
}

Status add_paths(std::string_view value, Words& words) {
  auto paths = parse_paths(value);
  if (!paths) return fail(std::move(paths.error()));
  auto& all = words.request.paths;
  for (PathSpec& path : *paths) {
    if (std::ranges::find(all, path) != all.end()) {
      return fail(EINVAL, "this path is given twice");
    }
    all.push_back(std::move(path));
  }
  if (all.size() <= kMaxPaths) return {};
  return fail(EINVAL, fmt::format("a mapping has at most {} paths", kMaxPaths));
}

Status set_port(std::string_view value, Words& words) {
  words.ports.clear();
  for (;;) {
    const auto comma = value.find(',');
    const auto port = parse_number<std::uint16_t>(value.substr(0, comma));
    if (!port || *port == 0) {
      return fail(EINVAL, "must be a port, 1 to 65535, or one for each path");
    }
    words.ports.push_back(*port);
    if (comma == std::string_view::npos) break;
    value.remove_prefix(comma + 1);
  }
  words.request.port = words.ports.front();
  return {};
}

/// Once all paths are known.
Status give_ports(Words& words) {
  auto& paths = words.request.paths;
  if (words.ports.size() <= 1) return {};
  if (words.ports.size() != paths.size()) {
    return fail(EINVAL, fmt::format("dest_port= has {} ports, and there are {} paths",
                                    words.ports.size(), paths.size()));
  }
  for (std::size_t i = 0; i < paths.size(); ++i) paths[i].port = words.ports[i];
  return {};
}

Status set_device_path(std::string_view value, Words& words) {
  if (auto named = check_name(value); !named) return named;
  words.request.device_path = value;
  return {};
}

Status set_access_mode(std::string_view value, Words& words) {
  return choose(value, kAccessModes, words.request.access_mode);
}

Status set_input_mode(std::string_view value, Words& words) {
  return choose(value, kInputModes, words.request.input_mode);
}

Status set_io_mode(std::string_view value, Words& words) {
  return choose(value, kIoModes, words.request.io_mode);
}

Status set_device(std::string_view value, Words& words) {
  std::optional<std::uint32_t> index;
  if (value.starts_with(kNode)) index = parse_number<std::uint32_t>(value.substr(kNode.size()));
  if (!index || *index > kMaxIndex) return fail(EINVAL, "must be a node like /dev/nbd0");
  words.request.device_index = index;
  return {};
}

Status set_on_no_path(std::string_view value, Words& words) {
  words.request.fail_after.reset();
  if (value == kQueue) return {};
  std::optional<std::uint32_t> seconds;
  if (value.starts_with(kFailAfter)) {
    value.remove_prefix(kFailAfter.size());
    if (value.ends_with('s')) value.remove_suffix(1);
    seconds = parse_number<std::uint32_t>(value);
  }
  if (!seconds || *seconds > kLongestFailAfter) {
    return fail(EINVAL, fmt::format("must be queue, or fail-after:N with up to {} seconds",
                                    kLongestFailAfter));
  }
  words.request.fail_after = std::chrono::seconds(*seconds);
  return {};
}

Status set_persist(std::string_view value, Words& words) {
  return choose(value, kPersist, words.request.persist);
}

Status set_policy(std::string_view value, Words& words) {
  auto policy = parse_policy(value);
  if (!policy) return fail(std::move(policy.error()));
  words.request.policy = *policy;
  return {};
}

template <typename T>
Status set_number(std::string_view value, T least, T most, T& out) {
  const auto number = parse_number<T>(value);
  if (!number || *number < least || *number > most) {
    return fail(EINVAL, fmt::format("must be {} to {}", least, most));
  }
  out = *number;
  return {};
}

Status set_hb_interval(std::string_view value, Words& words) {
  unsigned interval = 0;
  if (Status set = set_number(value, 10U, 60000U, interval); !set) return set;
  words.request.hb_interval = std::chrono::milliseconds(interval);
  return {};
}

Status set_hb_missed_max(std::string_view value, Words& words) {
  return set_number(value, 1U, 100U, words.request.hb_missed_max);
}

Status set_max_reconnects(std::string_view value, Words& words) {
  return set_number(value, -1, 9999, words.request.max_reconnect_attempts);
}

struct Key {
  std::string_view name;
  Status (*set)(std::string_view value, Words& words);
  bool repeatable = false;
};

constexpr std::array kKeys = {
    Key{"server", set_server},
    Key{"sessname", set_session},
    Key{"path", add_paths, true},
    Key{"dest_port", set_port},
    Key{"device_path", set_device_path},
    Key{"access_mode", set_access_mode},
    Key{"input_mode", set_input_mode},
    Key{"io_mode", set_io_mode},
    Key{"device", set_device},
    Key{"on_no_path", set_on_no_path},
    Key{"persist", set_persist},
    Key{"mpath_policy", set_policy},
    Key{"hb_interval_ms", set_hb_interval},
    Key{"hb_missed_max", set_hb_missed_max},
    Key{"max_reconnect_attempts", set_max_reconnects},
};

constexpr auto kKeyNames = [] {
  std::array<std::string_view, kKeys.size()> names;
  std::ranges::transform(kKeys, names.begin(), &Key::name);
  return names;
}();

bool is_control(char byte) { return static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f; }

constexpr std::array<std::string_view, 3> kAddressKeys = {"server", "path", "dest_port"};
constexpr std::array<std::string_view, 3> kSessionKeys = {"on_no_path", "mpath_policy",
                                                          "max_reconnect_attempts"};

/// `names`: which keys there may be.
Status read_word(std::string_view word, std::span<const std::string_view> names,
                 std::set<std::string_view>& seen, Words& words) {
  if (std::ranges::any_of(word, is_control)) {
    return fail(EINVAL, "a word holds a control character");
  }
  const auto equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  const auto key = std::ranges::find(kKeys, name, &Key::name);
  if (key == kKeys.end() || std::ranges::find(names, name) == names.end()) {
    return fail(EINVAL, fmt::format("unknown word '{}'{}", word, did_you_mean(name, names)));
  }
  if (equals == std::string_view::npos)
    return fail(EINVAL, fmt::format("'{0}' needs a value: {0}=…", name));
  if (!seen.insert(key->name).second && !key->repeatable) {
    return fail(EINVAL, fmt::format("'{}': {}= is given twice", word, name));
  }
  if (auto set = key->set(word.substr(equals + 1), words); !set) {
    return fail(EINVAL, fmt::format("'{}': {}", word, set.error().message));
  }
  return {};
}

/// Which keys were given.
Result<std::set<std::string_view>> read_words(std::span<const std::string> words,
                                              std::span<const std::string_view> names,
                                              Words& read) {
  std::set<std::string_view> seen;
  for (const std::string& word : words) {
    if (auto status = read_word(word, names, seen, read); !status) return fail(status.error());
  }
  return seen;
}

/// What only shows when all words are known.
Status complete(Words& words, std::string_view hostname) {
  MapRequest& request = words.request;
  if (request.device_path.empty()) {
    return fail(EINVAL, "device_path= is missing: the server's name of the device");
  }
  if (words.server.empty()) {
    if (!request.session_name.empty()) return give_ports(words);
    return fail(EINVAL, request.paths.empty() ? "server=ip:ADDR is missing, or sessname= and path="
                                              : "path= needs sessname=, the name of the session");
  }
  if (!request.paths.empty()) {
    return fail(EINVAL, "server= and path= exclude each other: server= is the only path");
  }
  if (request.session_name.empty()) {
    request.session_name = derived_session_name(hostname, words.server, request.port);
  }
  request.paths.push_back({{}, words.server});
  return give_ports(words);
}

/// Dots, colons and whatever else a session's name may not have become dashes.
std::string dashed(std::string_view text) {
  std::string out(text);
  std::ranges::replace_if(
      out, [](char c) { return c == '.' || c == ':' || c == '/' || c == ' ' || is_control(c); },
      '-');
  return out;
}

}  // namespace

std::string_view default_of(const MapDefaults& defaults, std::string_view word) {
  for (const std::string& one : defaults) {
    const std::string_view text = one;
    if (text.starts_with(word) && text.substr(word.size()).starts_with('=')) {
      return text.substr(word.size() + 1);
    }
  }
  return {};
}

Status set_default(MapDefaults& defaults, std::string_view word, std::string_view value) {
  RNBD_ASSERT(std::ranges::find(kDefaultWords, word) != kDefaultWords.end());
  Words tried;
  if (Status set = std::ranges::find(kKeys, word, &Key::name)->set(value, tried); !set) {
    return fail(EINVAL, fmt::format("{} {}", word, set.error().message));
  }
  std::erase_if(defaults, [&](const std::string& one) {
    return one.starts_with(word) && one[word.size()] == '=';
  });
  defaults.push_back(fmt::format("{}={}", word, value));
  return {};
}

Result<MapRequest> parse_map_words(std::span<const std::string> words, std::string_view hostname,
                                   const MapDefaults& defaults) {
  Words read;
  if (auto seen = read_words(defaults, kKeyNames, read); !seen) return fail(seen.error());
  if (auto seen = read_words(words, kKeyNames, read); !seen) return fail(seen.error());
  if (auto status = complete(read, hostname); !status) return fail(status.error());
  return std::move(read.request);
}

Result<AddressWords> parse_address_words(std::span<const std::string> words) {
  Words read;
  if (auto seen = read_words(words, kAddressKeys, read); !seen) return fail(seen.error());
  if (!read.server.empty()) read.request.paths.push_back({{}, read.server});
  if (read.request.paths.empty()) return fail(EINVAL, "server=ip:ADDR is missing, or path=");
  if (Status given = give_ports(read); !given) return fail(given.error());
  return AddressWords{std::move(read.request.paths), read.request.port};
}

Result<SessionWords> parse_session_words(std::span<const std::string> words) {
  Words read;
  const auto seen = read_words(words, kSessionKeys, read);
  if (!seen) return fail(seen.error());
  if (seen->empty()) return fail(EINVAL, "what shall be different? on_no_path=, for example");
  SessionWords change;
  const MapRequest& request = read.request;
  if (seen->contains("on_no_path")) change.fail_after = request.fail_after;
  if (seen->contains("mpath_policy")) change.policy = request.policy;
  if (seen->contains("max_reconnect_attempts")) {
    change.max_reconnect_attempts = request.max_reconnect_attempts;
  }
  return change;
}

std::string derived_session_name(std::string_view hostname, std::string_view address,
                                 std::uint16_t port) {
  address.remove_prefix(address.find(':') + 1);
  std::string to = dashed(address);
  std::erase_if(to, [](char c) { return c == '[' || c == ']'; });
  if (port != kDefaultPort) to += fmt::format(":{}", port);
  return fmt::format("{}@{}", dashed(hostname.substr(0, kMaxName - 1 - to.size())), to);
}

std::span<const std::string_view> map_word_names() { return kKeyNames; }

std::string_view name_of(wire::AccessMode mode) { return name_in(mode, kAccessModes); }
std::string_view name_of(wire::IoMode mode) { return name_in(mode, kIoModes); }
std::string_view name_of(rtrs::PathPolicy policy) { return name_in(policy, kPolicies); }

Result<rtrs::PathPolicy> parse_policy(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  rtrs::PathPolicy policy{};
  if (Status chosen = choose(lower, kPolicies, policy); !chosen) return fail(chosen.error());
  return policy;
}

}  // namespace rnbd::client
