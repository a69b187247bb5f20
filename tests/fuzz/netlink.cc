// SPDX-License-Identifier: Apache-2.0
// What the kernel's NBD driver answers by netlink: libnl walks over the messages, we over what is
// in them.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include <linux/nbd-netlink.h>
#include <netlink/attr.h>
#include <netlink/handlers.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include "client/nbd_answer.h"
#include "fuzz/input.h"

using namespace rnbd;
using namespace rnbd::client;

namespace {

std::span<const std::byte> datagram;  // handed out once

int receive(nl_sock*, sockaddr_nl* from, unsigned char** buffer, ucred**) {
  if (datagram.empty()) return 0;
  *from = {};
  from->nl_family = AF_NETLINK;
  const std::size_t size = datagram.size();
  *buffer = static_cast<unsigned char*>(std::malloc(size));
  std::memcpy(*buffer, datagram.data(), size);
  datagram = {};
  return static_cast<int>(size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  datagram = input.rest();
  const std::unique_ptr<nl_sock, decltype(&nl_socket_free)> socket(nl_socket_alloc(),
                                                                   &nl_socket_free);
  nl_socket_disable_seq_check(socket.get());
  NbdAnswer answer;
  answer.on_data = [](std::span<nlattr*> attributes) {
    if (nlattr* list = attributes[NBD_ATTR_DEVICE_LIST]; list != nullptr) read_devices(list);
    if (nlattr* index = attributes[NBD_ATTR_INDEX]; index != nullptr) nla_get_u32(index);
  };
  const Callbacks callbacks = collect_into(answer);
  nl_cb_set(
      callbacks.get(), NL_CB_SEQ_CHECK, NL_CB_CUSTOM, [](nl_msg*, void*) -> int { return NL_OK; },
      nullptr);
  nl_cb_overwrite_recv(callbacks.get(), receive);
  static_cast<void>(nl_recvmsgs(socket.get(), callbacks.get()));
  return 0;
}
