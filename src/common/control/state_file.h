// SPDX-License-Identifier: Apache-2.0
// What a daemon remembers beyond its life: a JSON object in a file that one daemon has at a time.
// Control thread; writing is done by a thread of its own, since the file may lie on a disk that
// waits for this very daemon.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "common/control/blocking_pool.h"
#include "common/control/messages.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::control {

class StateFile {
 public:
  /// `directory`: empty, and nothing can be remembered. It is made if it is not there.
  StateFile(Executor& control, const std::string& directory, const std::string& name);

  /// Throws, as the JSON library does, what it finds wrong.
  using Check = std::function<void(const Json& content)>;

  /// What the file holds; null if there is none. A file that is damaged, or that `check` refuses,
  /// is set aside, which is logged, and there is none then. Once, before save(); blocks. Errors:
  /// EOPNOTSUPP without a directory; EBUSY: another daemon has it; EPROTO: a later version wrote
  /// it; those of reading it. Then nothing is ever written over it.
  Result<Json> load(const Check& check);

  /// The same on the writer's thread; `done` on the control thread. save() comes behind it.
  void load_later(Check check, std::move_only_function<void(const Result<Json>&)> done);

  /// Replaces it by `content`, an object, one after the other. `done`, on the control thread: it is
  /// on the disk. One that fails while later ones are on their way ends as they do, since their
  /// content has the change too. Errors: load()'s; those of replace_file().
  void save(Json content, std::move_only_function<void(Status)> done);

  /// Why nothing can be saved, if that is so.
  [[nodiscard]] const Status& usable() const { return usable_; }

  /// What has been saved is not on the disk yet.
  [[nodiscard]] bool busy() const { return saving_ > 0; }

 private:
  struct Loaded {
    UniqueFd lock;
    Result<Json> content;
  };
  static Loaded lock_and_read(const std::string& directory, const std::string& path,
                              const Check& check);
  Result<Json> take(Loaded loaded);
  void conclude(Status saved, std::move_only_function<void(Status)> done);

  std::string directory_;
  std::string path_;
  UniqueFd lock_;
  Status usable_;
  std::size_t saving_ = 0;
  std::vector<std::move_only_function<void(Status)>> overtaken_;  ///< failed; later ones decide
  BlockingPool writer_;
};

}  // namespace rnbd::control
