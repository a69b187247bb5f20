// SPDX-License-Identifier: Apache-2.0
// How the kernel answers a request of generic netlink: acknowledged, refused with an errno and
// perhaps words, with data or without. Whatever the bytes are, reading them ends and stays inside
// them. The thread that uses the socket.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "client/nbd_netlink.h"

struct nl_cb;
struct nlattr;

namespace rnbd::client {

/// The answer to one request, collected by its callbacks.
struct NbdAnswer {
  bool complete = false;                            ///< acknowledged or refused
  int error = 0;                                    ///< errno of the refusal
  std::string reason;                               ///< the kernel's words about it, if it had any
  std::function<void(std::span<nlattr*>)> on_data;  ///< attributes of family nbd, by their number
};

struct FreeCallbacks {
  void operator()(nl_cb* callbacks) const;
};
using Callbacks = std::unique_ptr<nl_cb, FreeCallbacks>;

/// Callbacks for nl_recvmsgs() that fill in `answer`, which outlives them. Null: out of memory.
Callbacks collect_into(NbdAnswer& answer);

/// The devices of an NBD_ATTR_DEVICE_LIST; entries that lack something are left out.
std::vector<NbdDeviceStatus> read_devices(nlattr* list);

}  // namespace rnbd::client
