// SPDX-License-Identifier: Apache-2.0
// The disks that clients have open, over all sessions, and who may open which: any number of
// readers, one writer, a second one for a migration. Control thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/result.h"
#include "common/rnbd_wire.h"
#include "server/backend.h"
#include "server/drain.h"
#include "server/export_path.h"
#include "server/lost_devices.h"
#include "server/named_exports.h"

namespace rnbd::server {

/// The life of an export, in order; Closing is left out when nothing has to be waited for.
enum class ExportState : std::uint8_t {
  Open,     ///< requests are served
  Closing,  ///< no new requests; the control plane waits for those on the way
  Closed,   ///< by the administrator: only the id is kept, until the client gives it back
};

/// One disk, opened by one session under one name.
struct Export {
  std::uint64_t session = 0;
  std::string session_name;
  std::string mapping_path;  ///< the name the client used
  std::string device_path;   ///< the disk on this host
  std::uint32_t device_id = 0;
  DiskIdentity identity;
  std::uint64_t mark = 0;  ///< disk_mark()
  wire::AccessMode access = wire::AccessMode::ReadOnly;
  wire::IoMode io_mode = wire::IoMode::ServerDefault;  ///< in use
  std::uint64_t size_bytes = 0;
  std::chrono::system_clock::time_point since;
  ExportState state = ExportState::Open;
  bool named = false;              ///< its name is, or was, one of NamedExports
  std::optional<Backend> backend;  ///< none when Closed
};

class Exports {
 public:
  struct Session {
    std::uint64_t id = 0;
    std::string_view name;
  };

  /// `on_change`: told when a disk has been opened, and when it has been closed. `now`: what time
  /// it is.
  using OnChange = std::function<void(const Export& entry, ExportState state)>;
  explicit Exports(
      SearchPath search_path, OnChange on_change = [](const Export&, ExportState) {},
      std::function<TimePoint()> now = Clock::now)
      : search_path_(std::move(search_path)),
        on_change_(std::move(on_change)),
        now_(std::move(now)) {}

  /// What names mean from now on.
  struct Meaning {
    SearchPath search_path;
    std::vector<NamedExport> configured;  ///< exports by name
  };
  /// Why something is not put in force: a client would be led from its disk to another one.
  struct Refused {
    std::string search_path;           ///< empty: it is
    std::vector<std::string> exports;  ///< one for each name that stays what it was
  };
  /// Puts in force what leads no client to another disk: none of those that have a device open, and
  /// none that may come back to one. `meaning` is what is in force then. What is open stays so.
  Refused adopt(Meaning& meaning);

  /// EBUSY, with who it is, if a client relies on `name` as another disk than `disk`.
  [[nodiscard]] Status may_mean(std::string_view name, const FoundDisk& disk) const;

  /// EBUSY, if a client that relies on `name` would find another disk below dev_search_path once it
  /// is no export by name any more.
  [[nodiscard]] Status may_end(std::string_view name) const;

  /// Devices that are awaited back, as they were when they were lost.
  [[nodiscard]] std::vector<LostDevices::Device> lost() const { return lost_.list(now_()); }

  /// The names of the sessions that rely on `name`, each once: it is open, or awaited back.
  [[nodiscard]] std::vector<std::string> relying_on(std::string_view name) const;

  /// Names that are looked up before; what is open under one stays so when it goes.
  [[nodiscard]] NamedExports& named() { return named_; }

  [[nodiscard]] Drain& drain() { return drain_; }
  [[nodiscard]] const Drain& drain() const { return drain_; }

  /// Opens a disk for a session. A name that the session has open already answers what there is,
  /// whatever `access` says. The answer stays in place until it is closed. `access` and `io_mode`
  /// are what the client sent.
  /// Errors: ESHUTDOWN while the session is being drained; EINVAL for an unknown `access` or
  /// `io_mode`; EPERM if there are writers enough; EBUSY if a writer asks for a block device that
  /// is in use on this host; ENOSPC if the session has no device id left; EROFS if a writer asks
  /// for a named export that is read-only; those of SearchPath::find, find_disk and Backend::open.
  Result<Export*> open(const Session& session, std::string_view name, std::uint8_t access,
                       std::uint8_t io_mode);

  /// Null if there is no such export.
  Export* find(std::uint64_t session, std::uint32_t device_id);

  /// From now on the name is free for another open(); the id, and a writer's place, are not yet.
  void begin_close(std::uint64_t session, std::uint32_t device_id);

  /// Closes the disk and frees the id. No request uses the disk any more. What is not there is
  /// fine.
  void close(std::uint64_t session, std::uint32_t device_id);

  /// As close(), but keeps the id: the client's requests must go on failing, not reach whatever
  /// would be opened under that id next.
  void force_close(std::uint64_t session, std::uint32_t device_id);

  struct Resized {
    const Export* entry = nullptr;
    std::uint64_t was_bytes = 0;
  };
  /// Looks at the sizes of the open disks, or of the one at `device_path` only; answers which have
  /// changed. Errors: ENOENT (nobody has that disk open).
  Result<std::vector<Resized>> revalidate(std::string_view device_path = {});

  /// Closes everything a session has. No request uses any of it. Its client may come back to it.
  void close_session(std::uint64_t session);

  /// In the order of sessions and ids.
  [[nodiscard]] std::vector<const Export*> list() const;

 private:
  /// What the exports of one disk share while it has writers.
  struct Writers {
    unsigned count = 0;
    UniqueFd claim;  ///< keeps others on this host from mounting the disk
  };
  struct Key {
    std::uint64_t session = 0;
    std::uint32_t device_id = 0;
    friend auto operator<=>(const Key&, const Key&) = default;
  };

  Export* find_open(std::uint64_t session, std::string_view name);
  /// The one behind the last that was given: what a client sent under an id that was closed by
  /// force may still arrive when the id is free, and must not reach another disk.
  Result<std::uint32_t> free_id(std::uint64_t session) const;
  Status admit(const FoundDisk& disk, wire::AccessMode access);
  void dismiss(const DiskIdentity& disk, wire::AccessMode access);
  void drop_disk(Export& entry);

  Result<Export*> open_new(const Session& session, std::string_view name, std::uint8_t access,
                           std::uint8_t io_mode);
  Result<FoundDisk> find_named_or_below(const Session& session, std::string_view name,
                                        wire::AccessMode access) const;
  /// Its client may ask for it by name again.
  void lose(const Export& entry);
  /// All that clients rely on: what is open, what was closed by force, what is awaited back.
  [[nodiscard]] std::vector<LostDevices::Device> relied_on() const;
  [[nodiscard]] std::string misleading_search_path(const Meaning& wanted) const;
  [[nodiscard]] std::string misleading_name(const LostDevices::Device& device,
                                            const NamedExports& wanted,
                                            const SearchPath& search_path) const;

  SearchPath search_path_;
  OnChange on_change_;
  std::function<TimePoint()> now_;
  NamedExports named_;
  LostDevices lost_;
  Drain drain_;
  std::map<Key, Export> exports_;
  std::map<std::uint64_t, std::uint32_t> last_ids_;  ///< given, by session
  std::map<DiskIdentity, Writers> writers_;
};

}  // namespace rnbd::server
