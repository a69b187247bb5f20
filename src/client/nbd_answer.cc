// SPDX-License-Identifier: Apache-2.0
#include "client/nbd_answer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>

namespace rnbd::client {
namespace {

int on_ack(nl_msg*, void* argument) {
  static_cast<NbdAnswer*>(argument)->complete = true;
  return NL_STOP;
}

/// Netlink's alignment; its macros do not survive -Wsign-conversion.
constexpr std::size_t aligned(std::size_t length) { return (length + 3) & ~std::size_t{3}; }

constexpr std::size_t kMessageHeader = aligned(sizeof(nlmsghdr));
constexpr std::size_t kAttributeHeader = aligned(sizeof(nlattr));

/// The text the kernel may append to a refusal (NETLINK_EXT_ACK).
std::string extended_reason(const nlmsgerr& refusal) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&refusal);
  nlmsghdr header{};
  std::memcpy(&header, bytes - kMessageHeader, sizeof header);
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  // Behind the refusal comes the request it refuses, unless that was left out.
  std::size_t skip = sizeof refusal;
  if ((header.nlmsg_flags & NLM_F_CAPPED) == 0) {
    if (refusal.msg.nlmsg_len < sizeof(nlmsghdr)) return {};
    skip += refusal.msg.nlmsg_len - sizeof(nlmsghdr);
  }
  skip = aligned(skip);
  const std::size_t length = header.nlmsg_len - kMessageHeader;
  if (length <= skip) return {};
  // Not nla_find(): it wants a pointer it may write through.
  std::span<const std::byte> rest(bytes + skip, length - skip);
  while (rest.size() >= sizeof(nlattr)) {
    nlattr attribute{};
    std::memcpy(&attribute, rest.data(), sizeof attribute);
    if (attribute.nla_len < sizeof attribute || attribute.nla_len > rest.size()) break;
    if ((attribute.nla_type & NLA_TYPE_MASK) == NLMSGERR_ATTR_MSG) {
      const auto* text = reinterpret_cast<const char*>(rest.data() + kAttributeHeader);
      return {text, ::strnlen(text, attribute.nla_len - kAttributeHeader)};
    }
    rest = rest.subspan(std::min<std::size_t>(aligned(attribute.nla_len), rest.size()));
  }
  return {};
}

int on_refusal(sockaddr_nl*, nlmsgerr* refusal, void* argument) {
  auto& answer = *static_cast<NbdAnswer*>(argument);
  answer.complete = true;
  constexpr int kMostErrno = 4095;  // the kernel's MAX_ERRNO
  const bool sound = refusal->error < 0 && refusal->error >= -kMostErrno;
  answer.error = sound ? -refusal->error : EPROTO;
  answer.reason = extended_reason(*refusal);
  return NL_STOP;
}

int on_data(nl_msg* message, void* argument) {
  auto& answer = *static_cast<NbdAnswer*>(argument);
  std::array<nlattr*, NBD_ATTR_MAX + 1> attributes{};
  if (answer.on_data &&
      genlmsg_parse(nlmsg_hdr(message), 0, attributes.data(), NBD_ATTR_MAX, nullptr) == 0) {
    answer.on_data(attributes);
  }
  return NL_OK;
}

}  // namespace

void FreeCallbacks::operator()(nl_cb* callbacks) const { nl_cb_put(callbacks); }

Callbacks collect_into(NbdAnswer& answer) {
  Callbacks callbacks(nl_cb_alloc(NL_CB_DEFAULT));
  if (callbacks == nullptr) return callbacks;
  nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_ack, &answer);
  nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_data, &answer);
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_refusal, &answer);
  return callbacks;
}

std::vector<NbdDeviceStatus> read_devices(nlattr* list) {
  std::vector<NbdDeviceStatus> devices;
  nlattr* item = nullptr;
  int remaining = 0;
  nla_for_each_nested(item, list, remaining) {
    std::array<nlattr*, NBD_DEVICE_ATTR_MAX + 1> attributes{};
    if (nla_parse_nested(attributes.data(), NBD_DEVICE_ATTR_MAX, item, nullptr) != 0) continue;
    nlattr* index = attributes[NBD_DEVICE_INDEX];
    nlattr* connected = attributes[NBD_DEVICE_CONNECTED];
    if (index == nullptr || connected == nullptr) continue;
    devices.push_back({nla_get_u32(index), nla_get_u8(connected) != 0});
  }
  return devices;
}

}  // namespace rnbd::client
