// SPDX-License-Identifier: Apache-2.0
#include "transport/worker.h"

#include <algorithm>
#include <future>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <utility>

#include "common/assert.h"

namespace rnbd {
namespace {

constexpr unsigned kRingEntries = 1024;
constexpr unsigned kRingCompletions = 4096;

// Kinds of the worker's own tags; sinks get the ones behind.
constexpr std::uint16_t kMailboxKind = 0;
constexpr std::uint16_t kArrivalKind = 1;
constexpr std::uint16_t kWritableKind = 2;
constexpr std::uint16_t kUnwatchKind = 3;
constexpr std::uint16_t kFirstSinkKind = 4;

constexpr int kEnded = POLLHUP | POLLRDHUP | POLLERR;

}  // namespace

Result<std::unique_ptr<Worker>> Worker::start(const std::string& name, Duration spin) {
  auto mailbox = Mailbox::create();
  if (!mailbox) return fail(mailbox.error());
  std::unique_ptr<Worker> worker(new Worker(std::move(*mailbox), spin));
  std::promise<Status> ready;
  auto started = ready.get_future();
  worker->thread_ = std::thread([&worker = *worker, &ready, &name] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    // The thread that creates the ring is the only one that may use it.
    auto ring = IoRing::create(kRingEntries, kRingCompletions);
    if (!ring) {
      ready.set_value(fail(ring.error()));
      return;
    }
    worker.ring_ = std::move(*ring);
    ready.set_value({});
    worker.run();
  });
  if (Status status = started.get(); !status) {
    worker->thread_.join();
    return fail(status.error());
  }
  return worker;
}

Worker::~Worker() {
  if (!thread_.joinable()) return;
  post([this] { stopping_ = true; });
  thread_.join();
}

void Worker::post(Task task) { mailbox_.post(std::move(task)); }

void Worker::signal(Pollable& pollable) {
  // The pollable's flag before the worker's: who takes the latter down looks at all of the former.
  if (pollable.signalled_.exchange(true) || signalled_.exchange(true)) return;
  mailbox_.rouse();
}

void Worker::run() {
  watch_mailbox();
  while (!stopping_) {
    now_ = Clock::now();
    if (round()) {
      spin_.worked(now_);
      continue;
    }
    switch (spin_.next(now_)) {
      case Spin::Next::Look:
        break;
      case Spin::Next::Yield:
        ::sched_yield();
        break;
      case Spin::Next::Sleep:
        if (!arm_active()) ring_->sleep(next_deadline(), now_);
        break;
    }
  }
  ring_.reset();
}

bool Worker::round() {
  bool done = reap();
  done |= poll_active();
  done |= run_timers();
  flush_all();
  return done;
}

bool Worker::reap() {
  bool any = false;
  const std::size_t count = ring_->reap(completions_);
  for (std::size_t i = 0; i < count; ++i) {
    dispatch(completions_[i]);
    // Whether an arrival is work its poll() says.
    any |= completions_[i].tag.kind != kArrivalKind;
  }
  return any;
}

void Worker::dispatch(const RingCompletion& completion) {
  const std::uint16_t kind = completion.tag.kind;
  if (kind == kMailboxKind) {
    if ((completion.flags & IORING_CQE_F_MORE) == 0) watch_mailbox();
    mailbox_.drain();
    wake_signalled();
  } else if (kind == kArrivalKind || kind == kWritableKind) {
    on_watch(completion);
  } else if (kind == kUnwatchKind) {
    // What it removed answers for itself, under a generation that nobody holds any more.
  } else if (RingSink* sink = sinks_[kind - kFirstSinkKind]; sink != nullptr) {
    sink->on_ring_completion(completion.tag.index, completion.result, completion.flags);
  }
}

void Worker::wake_signalled() {
  if (!signalled_.exchange(false)) return;
  for (Watched& watched : watched_) {
    if (watched.pollable == nullptr || !watched.pollable->signalled_.exchange(false)) continue;
    watched.active = true;
    watched.woken = true;
  }
}

void Worker::on_watch(const RingCompletion& completion) {
  Watched& watched = watched_[completion.tag.index];
  if (watched.pollable == nullptr || watched.generation != completion.tag.generation) return;
  watched.active = true;
  watched.ended |= completion.result > 0 && (completion.result & kEnded) != 0;
  if (completion.tag.kind == kWritableKind) {
    watched.writable = false;
  } else if ((completion.flags & IORING_CQE_F_MORE) == 0 && completion.result >= 0) {
    watch(completion.tag.index);
  }
}

bool Worker::poll_active() {
  bool any = false;
  // By index: handlers may add to the list.
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    if (!watched_[i].active) continue;
    watched_[i].woken = false;
    Pollable& pollable = *watched_[i].pollable;
    if (pollable.poll() > 0) any = true;
    // Unless it has removed itself.
    Watched& watched = watched_[i];
    if (watched.pollable == &pollable && !watched.woken && !watched.ended && pollable.drained()) {
      watched.active = false;
    }
  }
  return any;
}

bool Worker::arm_active() {
  bool arrived = false;
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    if (!watched_[i].active) continue;
    if (watched_[i].woken || !watched_[i].pollable->arm()) {
      arrived = true;
    } else {
      watched_[i].active = false;
    }
  }
  return arrived;
}

void Worker::flush_all() {
  while (std::exchange(flush_wanted_, false)) {
    for (std::size_t i = 0; i < watched_.size(); ++i) {
      if (!watched_[i].flush) continue;
      watched_[i].flush = false;
      watched_[i].pollable->flush();
    }
  }
}

void Worker::watch_mailbox() {
  io_uring_prep_poll_multishot(&ring_->prepare({kMailboxKind, 0, 0}), mailbox_.wait_fd(), POLLIN);
}

void Worker::watch(std::uint32_t slot) {
  if (watched_[slot].pollable->wait_fd() < 0) return;
  const Tag tag{kArrivalKind, watched_[slot].generation, slot};
  io_uring_prep_poll_multishot(&ring_->prepare(tag), watched_[slot].pollable->wait_fd(),
                               POLLIN | POLLRDHUP);
}

void Worker::add(Pollable& pollable) {
  auto free = std::ranges::find(watched_, nullptr, &Watched::pollable);
  if (free == watched_.end()) free = watched_.insert(watched_.end(), Watched{});
  free->pollable = &pollable;
  free->active = true;
  pollable.signalled_ = false;  // it is polled now anyway
  pollable.slot_ = static_cast<std::uint32_t>(free - watched_.begin());
  watch(pollable.slot_);
}

void Worker::remove(Pollable& pollable) {
  Watched& watched = find(pollable);
  for (const std::uint16_t kind : {kArrivalKind, kWritableKind}) {
    if (pollable.wait_fd() < 0 || (kind == kWritableKind && !watched.writable)) continue;
    const Tag tag{kind, watched.generation, pollable.slot_};
    io_uring_prep_poll_remove(&ring_->prepare({kUnwatchKind, 0, 0}), tag.pack());
  }
  watched = {.generation = static_cast<std::uint16_t>(watched.generation + 1)};
}

void Worker::wake(Pollable& pollable) {
  Watched& watched = find(pollable);
  watched.active = true;
  watched.woken = true;
}

void Worker::want_flush(Pollable& pollable) {
  find(pollable).flush = true;
  flush_wanted_ = true;
}

void Worker::want_writable(Pollable& pollable) {
  Watched& watched = find(pollable);
  if (std::exchange(watched.writable, true)) return;
  const Tag tag{kWritableKind, watched.generation, pollable.slot_};
  io_uring_prep_poll_add(&ring_->prepare(tag), pollable.wait_fd(), POLLOUT);
}

Worker::Watched& Worker::find(const Pollable& pollable) {
  RNBD_ASSERT(pollable.slot_ < watched_.size() && watched_[pollable.slot_].pollable == &pollable);
  return watched_[pollable.slot_];
}

void Worker::add(Timed& timed) { timed_.push_back(&timed); }

void Worker::remove(Timed& timed) { std::erase(timed_, &timed); }

bool Worker::run_timers() {
  bool any = false;
  for (std::size_t i = 0; i < timed_.size();) {
    Timed* const timed = timed_[i];
    if (timed->deadline() <= now_) {
      timed->on_deadline(now_);
      any = true;
    }
    if (i < timed_.size() && timed_[i] == timed) ++i;  // it may have removed itself
  }
  return any;
}

TimePoint Worker::next_deadline() const {
  TimePoint next = kNever;
  for (const Timed* timed : timed_) next = std::min(next, timed->deadline());
  return next;
}

std::uint16_t Worker::add_ring_sink(RingSink& sink) {
  auto free = std::ranges::find(sinks_, nullptr);
  if (free == sinks_.end()) free = sinks_.insert(sinks_.end(), nullptr);
  *free = &sink;
  return static_cast<std::uint16_t>(kFirstSinkKind + (free - sinks_.begin()));
}

void Worker::remove_ring_sink(std::uint16_t kind) { sinks_[kind - kFirstSinkKind] = nullptr; }

}  // namespace rnbd
