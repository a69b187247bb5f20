// SPDX-License-Identifier: Apache-2.0
#include "client/nbd_netlink.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include "client/nbd_answer.h"

namespace rnbd::client {
namespace {

struct FreeMessage {
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using Message = std::unique_ptr<nl_msg, FreeMessage>;

/// libnl's own error numbers, where it fails before the kernel has spoken.
int to_errno(int nl_error) {
  switch (nl_error < 0 ? -nl_error : nl_error) {
    case NLE_NOMEM:
      return ENOMEM;
    case NLE_PERM:
      return EPERM;
    case NLE_NOACCESS:
      return EACCES;
    case NLE_AF_NOSUPPORT:
      return EAFNOSUPPORT;
    case NLE_OBJ_NOTFOUND:
      return ENOENT;
    default:
      return EIO;
  }
}

/// A request under construction. The first attribute that does not fit is remembered, so that
/// building needs one check, at the end.
class Request {
 public:
  Request(int family, std::uint8_t command) : message_(nlmsg_alloc()) {
    if (message_ == nullptr || genlmsg_put(get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, command,
                                           NBD_GENL_VERSION) == nullptr) {
      ok_ = false;
    }
  }

  void put_u32(int attribute, std::uint32_t value) {
    ok_ = ok_ && nla_put_u32(get(), attribute, value) == 0;
  }
  void put_u64(int attribute, std::uint64_t value) {
    ok_ = ok_ && nla_put_u64(get(), attribute, value) == 0;
  }
  void put_string(int attribute, const std::string& value) {
    ok_ = ok_ && nla_put_string(get(), attribute, value.c_str()) == 0;
  }
  void put_sockets(std::span<const int> sockets) {
    nlattr* list = open(NBD_ATTR_SOCKETS);
    for (const int fd : sockets) {
      nlattr* item = open(NBD_SOCK_ITEM);
      put_u32(NBD_SOCK_FD, static_cast<std::uint32_t>(fd));
      if (ok_) nla_nest_end(get(), item);
    }
    if (ok_) nla_nest_end(get(), list);
  }

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] nl_msg* get() const { return message_.get(); }

 private:
  nlattr* open(int attribute) {
    // The flag, which libnl sets too: without it strict kernels do not take it for a nest.
    nlattr* nest = ok_ ? nla_nest_start(get(), attribute | NLA_F_NESTED) : nullptr;
    ok_ = ok_ && nest != nullptr;
    return nest;
  }

  Message message_;
  bool ok_ = true;
};

std::unexpected<Error> refused(const NbdAnswer& answer, std::string_view doing) {
  std::string message(doing);
  if (answer.error == EPERM) message += " (it takes CAP_SYS_ADMIN)";
  if (!answer.reason.empty()) message += fmt::format(" (the kernel: {})", answer.reason);
  return fail(answer.error, std::move(message));
}

/// Sends `request` and waits until the kernel has acknowledged or refused it.
Status exchange(nl_sock* socket, const Request& request, std::string_view doing,
                NbdAnswer answer = {}) {
  if (!request.ok()) return fail(ENOMEM, fmt::format("{}: the message is too long", doing));
  const Callbacks callbacks = collect_into(answer);
  if (callbacks == nullptr) return fail(ENOMEM, std::string(doing));
  int result = nl_send_auto(socket, request.get());
  while (result >= 0 && !answer.complete) result = nl_recvmsgs(socket, callbacks.get());
  if (answer.error != 0) return refused(answer, doing);
  if (answer.complete) return {};
  return fail(to_errno(result), fmt::format("{}: {}", doing, nl_geterror(result)));
}

Status check_times(std::uint64_t timeout_s, std::uint64_t dead_conn_timeout_s) {
  if (timeout_s > kNbdMaxTimeout) {
    return fail(EINVAL, fmt::format("a timeout of {} s is longer than the nbd driver can count: {}",
                                    timeout_s, kNbdMaxTimeout));
  }
  if (dead_conn_timeout_s > kNbdMaxDeadConnTimeout) {
    return fail(EINVAL, fmt::format("{} s without a socket is longer than the nbd driver can "
                                    "count: {}",
                                    dead_conn_timeout_s, kNbdMaxDeadConnTimeout));
  }
  return {};
}

}  // namespace

void NbdNetlink::Close::operator()(nl_sock* socket) const { nl_socket_free(socket); }

Result<NbdNetlink> NbdNetlink::open() {
  Socket socket(nl_socket_alloc());
  if (socket == nullptr) return fail(ENOMEM, "cannot make a netlink socket");
  if (const int result = genl_connect(socket.get()); result < 0) {
    return fail(to_errno(result),
                fmt::format("cannot open generic netlink: {}", nl_geterror(result)));
  }
  const int on = 1;
  // Only for the kernel's words in errors; what it cannot do, it does without.
  std::ignore =
      ::setsockopt(nl_socket_get_fd(socket.get()), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  const int family = genl_ctrl_resolve(socket.get(), NBD_GENL_FAMILY_NAME);
  if (family == -NLE_OBJ_NOTFOUND) {
    return fail(ENODEV, "the kernel has no nbd driver loaded: modprobe nbd");
  }
  if (family < 0) {
    return fail(to_errno(family),
                fmt::format("cannot find the kernel's nbd driver: {}", nl_geterror(family)));
  }
  return NbdNetlink(std::move(socket), family);
}

Result<std::uint32_t> NbdNetlink::connect(const NbdDeviceConfig& config) {
  if (Status times = check_times(config.timeout_s, config.dead_conn_timeout_s); !times) {
    return fail(times.error());
  }
  Request request(family_, NBD_CMD_CONNECT);
  if (config.index) request.put_u32(NBD_ATTR_INDEX, *config.index);
  request.put_u64(NBD_ATTR_SIZE_BYTES, config.size_bytes);
  request.put_u64(NBD_ATTR_BLOCK_SIZE_BYTES, config.block_size);
  // Always, even if 0: a device that was used before keeps its last user's otherwise.
  request.put_u64(NBD_ATTR_TIMEOUT, config.timeout_s);
  request.put_u64(NBD_ATTR_DEAD_CONN_TIMEOUT, config.dead_conn_timeout_s);
  request.put_u64(NBD_ATTR_SERVER_FLAGS, config.server_flags);
  request.put_u64(NBD_ATTR_CLIENT_FLAGS, config.client_flags);
  if (!config.backend.empty()) request.put_string(NBD_ATTR_BACKEND_IDENTIFIER, config.backend);
  request.put_sockets(config.sockets);

  std::optional<std::uint32_t> index;
  NbdAnswer answer;
  answer.on_data = [&index](std::span<nlattr*> attributes) {
    if (attributes[NBD_ATTR_INDEX] != nullptr) index = nla_get_u32(attributes[NBD_ATTR_INDEX]);
  };
  const std::string doing = config.index ? fmt::format("cannot connect /dev/nbd{}", *config.index)
                                         : std::string("cannot connect an nbd device");
  if (Status done = exchange(socket_.get(), request, doing, std::move(answer)); !done) {
    return fail(done.error());
  }
  if (!index) return fail(EPROTO, "the nbd driver did not say which device it connected");
  return *index;
}

Status NbdNetlink::disconnect(std::uint32_t index) {
  Request request(family_, NBD_CMD_DISCONNECT);
  request.put_u32(NBD_ATTR_INDEX, index);
  return exchange(socket_.get(), request, fmt::format("cannot disconnect /dev/nbd{}", index));
}

Status NbdNetlink::reconfigure(std::uint32_t index, const NbdChange& change) {
  if (Status times =
          check_times(change.timeout_s.value_or(0), change.dead_conn_timeout_s.value_or(0));
      !times) {
    return times;
  }
  Request request(family_, NBD_CMD_RECONFIGURE);
  request.put_u32(NBD_ATTR_INDEX, index);
  if (!change.backend.empty()) request.put_string(NBD_ATTR_BACKEND_IDENTIFIER, change.backend);
  if (change.size_bytes) request.put_u64(NBD_ATTR_SIZE_BYTES, *change.size_bytes);
  if (change.timeout_s) request.put_u64(NBD_ATTR_TIMEOUT, *change.timeout_s);
  if (change.dead_conn_timeout_s) {
    request.put_u64(NBD_ATTR_DEAD_CONN_TIMEOUT, *change.dead_conn_timeout_s);
  }
  if (!change.sockets.empty()) request.put_sockets(change.sockets);
  return exchange(socket_.get(), request, fmt::format("cannot reconfigure /dev/nbd{}", index));
}

Result<std::vector<NbdDeviceStatus>> NbdNetlink::status(std::optional<std::uint32_t> index) {
  Request request(family_, NBD_CMD_STATUS);
  if (index) request.put_u32(NBD_ATTR_INDEX, *index);
  std::vector<NbdDeviceStatus> devices;
  NbdAnswer answer;
  answer.on_data = [&devices](std::span<nlattr*> attributes) {
    if (nlattr* list = attributes[NBD_ATTR_DEVICE_LIST]; list != nullptr) {
      devices = read_devices(list);
    }
  };
  if (Status done = exchange(socket_.get(), request, "cannot list nbd devices", std::move(answer));
      !done) {
    return fail(done.error());
  }
  return devices;
}

}  // namespace rnbd::client
