// SPDX-License-Identifier: Apache-2.0
// Asking a host whether it is there (knock.h).
#include "transport/verbs/knock.h"

#include <cerrno>
#include <iterator>
#include <utility>

#include "common/log.h"

namespace rnbd::transport::verbs {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstKnock{100};  ///< most requests have been answered by then
constexpr milliseconds kKnockPeriod{400};
constexpr milliseconds kKnockTimeout{1000};  ///< to find the way
constexpr std::size_t kMostUnanswered = 3;

}  // namespace

Result<std::unique_ptr<Knock>> Knock::start(Core& core, std::optional<CmAddress> source,
                                            const CmAddress& destination,
                                            std::function<void()> answered) {
  auto channel = core.channel();
  if (!channel) return fail(std::move(channel.error()));
  std::unique_ptr<Knock> knock(new Knock(core, std::move(answered)));
  auto id = (*channel)->make_id(destination.port_space(), *knock);
  if (!id) return fail(std::move(id.error()));
  knock->id_ = std::move(*id);
  // Nobody can listen on port 0.
  CmAddress nobodys = destination.with_any_port();
  std::optional<CmAddress> ours;
  if (source) ours = source->with_any_port();
  if (rdma_resolve_addr(knock->id_.get(), ours ? ours->get() : nullptr, nobodys.get(),
                        static_cast<int>(kKnockTimeout.count())) != 0) {
    return fail(errno, "rdma_resolve_addr");
  }
  return knock;
}

void Knock::on_cm_event(CmEvent& event) {
  // Whatever else comes, or goes wrong here, is no answer.
  if (event.type() == RDMA_CM_EVENT_ADDR_RESOLVED) {
    rdma_resolve_route(id_.get(), static_cast<int>(kKnockTimeout.count()));
  } else if (event.type() == RDMA_CM_EVENT_ROUTE_RESOLVED) {
    rdma_conn_param nothing{};
    if (!port_is_up(id_)) return;
    spoken_ = true;
    rdma_connect(id_.get(), &nothing);
  } else if (event.type() == RDMA_CM_EVENT_REJECTED) {
    if (auto answered = std::exchange(answered_, nullptr)) answered();
  }
}

HostWatch::HostWatch(Core& core, std::optional<CmAddress> source, const CmAddress& destination,
                     std::string where)
    : core_(core),
      source_(source),
      destination_(destination),
      where_(std::move(where)),
      next_(destination.is_gid() ? kNever : Clock::now() + kFirstKnock) {
  core_.connections().add(*this);
  core_.connections().reschedule();
}

HostWatch::~HostWatch() { core_.connections().remove(*this); }

void HostWatch::on_check(TimePoint now) {
  if (now < next_) return;
  next_ = now + kKnockPeriod;
  // The first tells whether the host was away, and the last ones that it is back.
  if (unanswered_.size() == kMostUnanswered) unanswered_.erase(std::next(unanswered_.begin()));
  const std::uint64_t number = ++knocked_;
  auto knock = Knock::start(core_, source_, destination_, [this, number] { on_answer(number); });
  if (knock) unanswered_.emplace(number, std::move(*knock));
}

void HostWatch::on_answer(std::uint64_t number) {
  const bool was_away = unanswered_.begin()->first < number;
  unanswered_.erase(unanswered_.begin(), unanswered_.upper_bound(number));
  if (!was_away) return;
  log::info("the host of {} answers again", where_);
  core_.connections().link_up();  // `this` may be gone now
}

}  // namespace rnbd::transport::verbs
