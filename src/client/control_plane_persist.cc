// SPDX-License-Identifier: Apache-2.0
// ControlPlane, third part: mappings that come back after a reboot.
#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "client/control_plane.h"
#include "client/path_control.h"
#include "common/control/verbs.h"
#include "common/host_name.h"
#include "common/log.h"

namespace rnbd::client {
namespace {

constexpr std::chrono::seconds kFirstPause{1};
constexpr std::chrono::seconds kLongestPause{15};

Error not_understood(const PersistentMapping& mapping, const Error& why) {
  return {why.code, fmt::format("what is remembered of it is not understood, and kept: {}; map it "
                                "as it shall be, or forget it: unmap {}",
                                why.message, mapping.name())};
}

}  // namespace

void ControlPlane::remember_in(control::StateFile& state) {
  state_ = &state;
  loading_ = true;
  const auto read = std::make_shared<PersistentMappings>();
  state.load_later(
      [read](const control::Json& content) { *read = PersistentMappings::from_json(content); },
      [this, read](const Result<control::Json>& content) {
        if (!content) {
          log::warn("persist=yes is not possible: {}", describe(content.error()));
        } else if (!content->is_null()) {
          persistent_ = std::move(*read);
        }
        on_loaded();
      });
}

void ControlPlane::on_loaded() {
  loading_ = false;
  bool amended = false;
  for (const auto& amend : std::exchange(amendments_, {})) amended |= amend();
  if (amended) {
    state_->save(persistent_.to_json(), [](const Status& saved) {
      if (!saved) log::error("what was changed meanwhile is not remembered");
    });
  }
  restore_all();
  for (Executor::Task& waiting : std::exchange(deferred_, {})) waiting();
}

void ControlPlane::restore_all() {
  for (const PersistentMapping& one : persistent_.all()) {
    const bool there = std::ranges::any_of(devices_, [&](const auto& device) {
      return device->request().session_name == one.session &&
             device->request().device_path == one.device_path;
    });
    if (there) continue;
    log::info("{} is mapped again", one.name());
    restoring_.push_back(std::make_unique<Restoring>(
        Restoring{.session = one.session, .device_path = one.device_path}));
    try_later(*restoring_.back(), {});
  }
}

void ControlPlane::try_later(Restoring& one, Duration pause) {
  one.next_attempt = control_.call_after(pause, [this, &one] { try_to_restore(one); });
}

void ControlPlane::try_to_restore(Restoring& one) {
  if (on_handed_over_ || on_stopped_) return;
  const PersistentMapping* const known = persistent_.find(one.session, one.device_path);
  if (known == nullptr) return;  // what was to be remembered anew could not be
  const PersistentMapping& mapping = *known;
  std::vector<std::string> words = mapping.words;
  const bool says_node = std::ranges::any_of(
      words, [](const std::string& word) { return word.starts_with("device="); });
  one.asks_for_node = !says_node && !mapping.node.empty() && !one.node_is_taken;
  if (one.asks_for_node) words.push_back("device=" + mapping.node);
  const auto request = parse_map_words(words, host_name(), defaults_);
  ++one.attempts;
  // A later version's words, perhaps. They stay in the file, and may be replaced by another map.
  if (!request) return restore_again(one, not_understood(mapping, request.error()));
  begin_map(*request,
            [this, session = one.session, device_path = one.device_path](
                const Result<std::string>& node) { on_restored(session, device_path, node); });
}

void ControlPlane::on_restored(const std::string& session, const std::string& device_path,
                               const Result<std::string>& node) {
  PersistentMapping* const mapping = persistent_.find(session, device_path);
  if (mapping == nullptr) {
    // It was forgotten meanwhile.
    if (Device* const device = node ? find_device(*node) : nullptr) {
      device->unmap(true, [](const Status&) {});
    }
    return;
  }
  const auto found = std::ranges::find_if(restoring_, [&](const auto& one) {
    return one->session == session && one->device_path == device_path;
  });
  if (found == restoring_.end()) return;
  if (!node && node.error().code != EEXIST) return restore_again(**found, node.error());
  if (!node && find_mapped(session, device_path) == nullptr) {
    return restore_again(**found, node.error());  // somebody is mapping it, with what success?
  }
  restoring_.erase(found);
  if (!node || mapping->node == *node) return;
  mapping->node = *node;
  state_->save(persistent_.to_json(), [](const Status&) {});
}

void ControlPlane::restore_again(Restoring& one, const Error& why) {
  const std::string text = describe(why);
  if (one.last_error != text) {
    log::warn("{}/{} cannot be mapped again yet: {}", one.session, one.device_path, text);
  }
  one.last_error = text;
  // Its node may be another's, or its disk at the server.
  one.node_is_taken = one.asks_for_node && why.code == EBUSY;
  if (one.node_is_taken) return try_later(one, {});
  one.pause = std::clamp<Duration>(2 * one.pause, kFirstPause, kLongestPause);
  try_later(one, one.pause);
}

void ControlPlane::stop_restoring(const std::string& session, const std::string& device_path) {
  std::erase_if(restoring_, [&](const auto& one) {
    return one->session == session && one->device_path == device_path;
  });
}

Device* ControlPlane::find_mapped(const std::string& session,
                                  const std::string& device_path) const {
  const auto found = std::ranges::find_if(devices_, [&](const auto& device) {
    return device->request().session_name == session &&
           device->request().device_path == device_path && !device->node().empty();
  });
  return found == devices_.end() ? nullptr : found->get();
}

Status ControlPlane::can_remember() const {
  if (state_ != nullptr) return state_->usable();
  return fail(EOPNOTSUPP, "there is no state_dir to remember it in");
}

void ControlPlane::remember(const std::vector<std::string>& words, const MapRequest& request,
                            const std::string& node, control::Reply reply) {
  const auto paths = path_specs(find_session(request.session_name)->rtrs().settings());
  std::optional<PersistentMapping> before;
  if (const auto* known = persistent_.find(request.session_name, request.device_path)) {
    before = *known;
  }
  persistent_.put(make_persistent(words, request, paths, node));
  stop_restoring(request.session_name, request.device_path);
  state_->save(persistent_.to_json(),
               [this, session = request.session_name, device_path = request.device_path, node,
                before = std::move(before), reply = std::move(reply)](const Status& saved) mutable {
                 if (saved) return reply(control::map_result(node));
                 persistent_.erase(session, device_path);
                 // What was remembered before is not lost by an attempt to replace it.
                 if (before) persistent_.put(std::move(*before));
                 // Some of what failed may have reached the file.
                 state_->save(persistent_.to_json(), [](const Status&) {});
                 // By what it is: its node may be another's by now.
                 if (Device* const device = find_mapped(session, device_path)) {
                   device->unmap(true, [](const Status&) {});
                 }
                 reply(fail(saved.error().code, "it is not mapped: " + saved.error().message));
               });
}

/// Answers when it is forgotten for good, and once more than the session has let it go. While the
/// file is being read nobody waits for that: it is forgotten behind the reading, or the log says.
control::Reply ControlPlane::forget_mapping(const std::string& session,
                                            const std::string& device_path, control::Reply reply) {
  if (loading_) {
    // The file may lie on a disk that waits for this very command.
    amendments_.emplace_back(
        [this, session, device_path] { return persistent_.erase(session, device_path); });
    return reply;
  }
  if (!persistent_.erase(session, device_path)) return reply;
  stop_restoring(session, device_path);
  struct Both {
    control::Reply reply;
    Status saved;
    int left = 2;
    void one_done() {
      if (--left > 0) return;
      if (saved) return reply(control::Json::object());
      reply(fail(saved.error().code,
                 "unmapped, but it will be mapped again: " + saved.error().message));
    }
  };
  const auto both = std::make_shared<Both>(std::move(reply));
  state_->save(persistent_.to_json(), [both](Status saved) {
    both->saved = std::move(saved);
    both->one_done();
  });
  return control::Reply([both](const control::Outcome&) { both->one_done(); });
}

/// Answers when what the sessions are now is what will come back.
void ControlPlane::remember_change(std::vector<std::string> sessions,
                                   std::vector<std::string> words, control::Reply reply) {
  auto amend = [this, sessions = std::move(sessions), words = std::move(words)] {
    bool amended = false;
    for (const std::string& session : sessions) amended |= persistent_.change(session, words);
    return amended;
  };
  if (loading_) {
    amendments_.emplace_back(std::move(amend));
    return reply(control::Json::object());
  }
  if (!amend()) return reply(control::Json::object());
  state_->save(persistent_.to_json(), [reply = std::move(reply)](const Status& saved) mutable {
    if (saved) return reply(control::Json::object());
    reply(fail(saved.error().code, "done, but not remembered: " + saved.error().message));
  });
}

bool ControlPlane::forget_waiting(const std::string& name, control::Reply& reply) {
  const auto found = std::ranges::find_if(
      restoring_, [&](const auto& one) { return one->session + '/' + one->device_path == name; });
  if (found == restoring_.end()) return false;
  const std::string session = (*found)->session;
  const std::string device_path = (*found)->device_path;
  forget_mapping(session, device_path, std::move(reply))(control::Json::object());
  return true;
}

control::Json ControlPlane::list_waiting() const {
  control::Json list = control::Json::array();
  for (const auto& one : restoring_) {
    list.push_back({{"session", one->session},
                    {"mapping_path", one->device_path},
                    {"attempts", one->attempts},
                    {"last_error", one->last_error}});
  }
  return list;
}

}  // namespace rnbd::client
