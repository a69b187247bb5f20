// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/quiet_ids.h"

#include <fstream>
#include <ios>
#include <net/if.h>
#include <string>
#include <utility>

namespace rnbd::transport::verbs {
namespace {

constexpr std::chrono::milliseconds kLook{250};

/// Of an adapter that is made of a network interface, which goes before the port does: the routes
/// are gone when the adapter hears of it.
bool interface_is_up(const ibv_device& adapter) {
  std::ifstream parent(std::string(&adapter.ibdev_path[0]) + "/parent");
  std::string name;
  unsigned flags = IFF_UP;
  if (parent >> name) std::ifstream("/sys/class/net/" + name + "/flags") >> std::hex >> flags;
  return (flags & IFF_UP) != 0;
}

}  // namespace

bool port_is_up(const CmId& id) {
  if (!id || id->verbs == nullptr || id->port_num == 0) return true;
  ibv_port_attr port{};
  if (ibv_query_port(id->verbs, id->port_num, &port) != 0) return true;
  return port.state == IBV_PORT_ACTIVE && interface_is_up(*id->verbs->device);
}

QuietIds::~QuietIds() { connections_.remove(*this); }

void QuietIds::take(CmId id) {
  if (port_is_up(id)) return;
  CmChannel::adopt(id, *this);
  ids_.push_back(std::move(id));
  connections_.add(*this);
  if (next_look_ == kNever) next_look_ = Clock::now() + kLook;
  connections_.reschedule();
}

void QuietIds::on_check(TimePoint now) {
  if (now < next_look_) return;
  std::erase_if(ids_, port_is_up);
  next_look_ = ids_.empty() ? kNever : now + kLook;
  if (ids_.empty()) connections_.remove(*this);
}

}  // namespace rnbd::transport::verbs
