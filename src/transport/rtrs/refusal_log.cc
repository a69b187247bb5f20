// SPDX-License-Identifier: Apache-2.0
#include "transport/rtrs/refusal_log.h"

#include <chrono>
#include <cstddef>

#include "common/log.h"

namespace rnbd::rtrs {
namespace {

constexpr std::chrono::seconds kPause{1};
/// Beyond that clients are counted together: addresses can be made up.
constexpr std::size_t kMostSilences = 64;

}  // namespace

void RefusalLog::tell(const std::string& client, const Error& why) {
  Key key{client, why.code};
  if (!silences_.contains(key) && silences_.size() >= kMostSilences) key = {"others", 0};
  if (const auto silence = silences_.find(key); silence != silences_.end()) {
    ++silence->second.left_out;
    silence->second.last = why;
    return;
  }
  log::warn("refused a connection of {}: {}", client, describe(why));
  begin(key);
}

void RefusalLog::begin(const Key& key) {
  silences_[key].end = control_.call_after(kPause, [this, key] { end(key); });
}

void RefusalLog::end(const Key& key) {
  const Silence silence = std::move(silences_.extract(key).mapped());
  if (silence.left_out == 0) return;
  log::warn("refused {} more connections of {}, the last one: {}", silence.left_out, key.first,
            describe(silence.last));
  begin(key);
}

}  // namespace rnbd::rtrs
