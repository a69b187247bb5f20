// SPDX-License-Identifier: Apache-2.0
#include "client/device_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/stat.h>

#include "common/assert.h"
#include "common/control/verbs.h"
#include "common/limits.h"

namespace rnbd::client {
namespace {

using control::Json;

constexpr std::uint64_t kMagic = 0x6c6e726a64626e72;  // "rnbdjrnl"
constexpr std::size_t kPage = 4096;
constexpr std::size_t kTextRoom = 2 * kPage;
constexpr std::size_t kJournals = kPage + 2 * kTextRoom;

std::size_t journal_room(const JournalShape& shape) {
  return (Journal::bytes(shape) + kPage - 1) / kPage * kPage;
}

std::size_t file_size(std::uint32_t queues, const JournalShape& shape) {
  return kJournals + queues * journal_room(shape);
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}

/// Throws what the JSON library throws: read() turns it into an error.
void from_hex(const Json& json, std::span<std::byte> bytes) {
  const auto text = json.get<std::string>();
  if (text.size() != 2 * bytes.size()) throw std::invalid_argument("a number of the wrong length");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
}

template <typename T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

Json to_json(const std::vector<rtrs::PathSpec>& paths) {
  Json json = Json::array();
  for (const rtrs::PathSpec& path : paths) {
    rtrs::Uuid uuid = path.uuid;
    json.push_back({{"source", path.route.source.text},
                    {"destination", path.route.destination.text},
                    {"port", path.route.destination.port},
                    {"uuid", to_hex(bytes_of(uuid))}});
  }
  return json;
}

std::vector<rtrs::PathSpec> paths_from_json(const Json& json) {
  std::vector<rtrs::PathSpec> paths;
  for (const Json& one : json) {
    rtrs::PathSpec& path = paths.emplace_back();
    path.route = {.source = {.text = one.at("source").get<std::string>(), .port = 0},
                  .destination = {.text = one.at("destination").get<std::string>(),
                                  .port = one.at("port").get<std::uint16_t>()}};
    from_hex(one.at("uuid"), bytes_of(path.uuid));
  }
  if (paths.empty() || paths.size() > limits::kMaxClientPaths) {
    throw std::invalid_argument("not a number of paths");
  }
  return paths;
}

rtrs::PathPolicy policy_from_json(const Json& json) {
  const auto policy = json.get<unsigned>();
  if (policy > static_cast<unsigned>(rtrs::PathPolicy::MinLatency)) {
    throw std::invalid_argument("no such policy");
  }
  return static_cast<rtrs::PathPolicy>(policy);
}

Json to_json(const DeviceRecord& record) {
  const rtrs::SessionSettings& session = record.session;
  const MapRequest& request = record.request;
  wire::OpenResponse opened = record.opened;
  rtrs::Uuid session_uuid = session.session_uuid;
  const auto interval =
      std::chrono::duration_cast<std::chrono::milliseconds>(session.heartbeat.interval);
  Json json{{"session", session.name},
            {"session_uuid", to_hex(bytes_of(session_uuid))},
            {"paths", to_json(session.paths)},
            {"policy", static_cast<unsigned>(session.policy)},
            {"hb_interval_ms", interval.count()},
            {"hb_missed_max", session.heartbeat.missed_max},
            {"max_reconnect_attempts", session.max_reconnect_attempts},
            {"queue_depth", record.parameters.queue_depth},
            {"max_io_size", record.parameters.max_io_size},
            {"memory", record.memory},
            {"device_path", request.device_path},
            {"access_mode", static_cast<unsigned>(request.access_mode)},
            {"input_mode", static_cast<unsigned>(request.input_mode)},
            {"io_mode", static_cast<unsigned>(request.io_mode)},
            {"opened", to_hex(bytes_of(opened))}};
  if (record.index) json["index"] = *record.index;
  if (request.fail_after) json["fail_after_s"] = request.fail_after->count();
  return json;
}

DeviceRecord from_json(const Json& json) {
  DeviceRecord record;
  rtrs::SessionSettings& session = record.session;
  session.name = json.at("session").get<std::string>();
  from_hex(json.at("session_uuid"), bytes_of(session.session_uuid));
  session.paths = paths_from_json(json.at("paths"));
  session.policy = policy_from_json(json.at("policy"));
  session.heartbeat.interval =
      std::chrono::milliseconds(json.at("hb_interval_ms").get<std::uint32_t>());
  session.heartbeat.missed_max = json.at("hb_missed_max").get<unsigned>();
  session.max_reconnect_attempts = json.at("max_reconnect_attempts").get<int>();
  record.parameters.queue_depth = json.at("queue_depth").get<std::uint32_t>();
  record.parameters.max_io_size = json.at("max_io_size").get<std::uint32_t>();
  record.parameters.max_header_size = limits::kHeaderArea;
  record.memory = json.at("memory").get<std::string>();
  MapRequest& request = record.request;
  request.session_name = session.name;
  for (const rtrs::PathSpec& path : session.paths) {
    const rtrs::Route& route = path.route;
    request.paths.push_back({route.source.text, route.destination.text, route.destination.port});
  }
  request.port = session.paths.front().route.destination.port;
  if (json.contains("fail_after_s")) {
    request.fail_after = std::chrono::seconds(json.at("fail_after_s").get<std::uint32_t>());
  }
  request.device_path = json.at("device_path").get<std::string>();
  request.access_mode = static_cast<wire::AccessMode>(json.at("access_mode").get<unsigned>());
  request.input_mode = static_cast<InputMode>(json.at("input_mode").get<unsigned>());
  request.io_mode = static_cast<wire::IoMode>(json.at("io_mode").get<unsigned>());
  from_hex(json.at("opened"), bytes_of(record.opened));
  if (json.contains("index")) record.index = json.at("index").get<std::uint32_t>();
  return record;
}

}  // namespace

struct DeviceFile::Header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t queues;
  std::uint32_t requests;
  std::uint32_t permits;
  Cell<std::uint32_t> text;  ///< which of the two counts
};

DeviceFile::DeviceFile(UniqueFd file, MemoryBlock memory)
    : file_(std::move(file)), memory_(std::move(memory)) {}

Result<DeviceFile> DeviceFile::create(std::uint32_t queues, const JournalShape& shape, bool file) {
  const std::size_t size = file_size(queues, shape);
  UniqueFd fd;
  if (file) {
    auto made = MemoryBlock::make_file("rnbd-device", size);
    if (!made) return fail(made.error());
    fd = std::move(*made);
  }
  auto memory = file ? MemoryBlock::map_file(fd.get(), size) : MemoryBlock::map(size);
  if (!memory) return fail(memory.error());
  DeviceFile made(std::move(fd), std::move(*memory));
  Header& header = made.header();
  header.version = control::kJournalVersion;
  header.queues = queues;
  header.requests = shape.requests;
  header.permits = shape.permits;
  header.magic = kMagic;
  return made;
}

Result<DeviceFile> DeviceFile::open(UniqueFd file) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0 || static_cast<std::size_t>(status.st_size) < kJournals) {
    return fail(EPROTO, "it is no device's memory file");
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  auto memory = MemoryBlock::map_file(file.get(), size);
  if (!memory) return fail(memory.error());
  DeviceFile opened(std::move(file), std::move(*memory));
  const Header& header = opened.header();
  if (header.magic != kMagic) return fail(EPROTO, "it is no device's memory file");
  if (header.version != control::kJournalVersion) {
    return fail(EPROTO, fmt::format("it was left by a version with journals {}; this one has {}",
                                    header.version, control::kJournalVersion));
  }
  const bool sane = header.queues > 0 && header.queues <= limits::kMaxConnections &&
                    header.requests > 0 && header.requests < UINT16_MAX &&
                    header.permits <= UINT16_MAX &&
                    file_size(header.queues, opened.shape()) == size && header.text.get() < 2;
  if (!sane) return fail(EPROTO, "its memory file makes no sense");
  return opened;
}

DeviceFile::Header& DeviceFile::header() const {
  return *reinterpret_cast<Header*>(memory_.bytes().data());  // NOLINT(*-reinterpret-cast): mapped
}

std::uint32_t DeviceFile::queues() const { return header().queues; }

JournalShape DeviceFile::shape() const { return {header().requests, header().permits}; }

std::span<std::byte> DeviceFile::journal(std::uint32_t queue) const {
  RNBD_ASSERT(queue < queues());
  const std::size_t room = journal_room(shape());
  return memory_.bytes().subspan(kJournals + queue * room, room);
}

std::span<std::byte> DeviceFile::text(std::uint32_t which) const {
  return memory_.bytes().subspan(kPage + which * kTextRoom, kTextRoom);
}

Status DeviceFile::write(const DeviceRecord& record) {
  const std::string json = to_json(record).dump();
  const std::uint32_t other = 1 - header().text.get();
  if (json.size() >= kTextRoom) return fail(E2BIG, "the device's names are too long");
  const auto room = text(other);
  std::ranges::copy(std::as_bytes(std::span(json)), room.begin());
  room[json.size()] = std::byte{0};
  header().text.set(other);
  return {};
}

Result<DeviceRecord> DeviceFile::read() const {
  const auto room = text(header().text.get());
  const auto length =
      static_cast<std::size_t>(std::ranges::find(room, std::byte{0}) - room.begin());
  std::string json(length, '\0');
  std::memcpy(json.data(), room.data(), length);
  try {
    return from_json(Json::parse(json));
  } catch (const std::exception& error) {
    return fail(EPROTO, fmt::format("its record makes no sense: {}", error.what()));
  }
}

}  // namespace rnbd::client
