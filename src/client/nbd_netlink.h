// SPDX-License-Identifier: Apache-2.0
// The kernel's NBD driver as it is administered: generic netlink, family "nbd"
// (linux/nbd-netlink.h). Its calls block, some until requests in flight have been answered: they
// belong on a helper thread, never on one that answers requests. One thread at a time uses an
// NbdNetlink.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"

struct nl_sock;

namespace rnbd::client {

/// The longest times the driver is given, in seconds: it counts in ticks of up to 1 kHz, a
/// request's timeout in 32 bits of them.
inline constexpr std::uint64_t kNbdMaxTimeout = 4'000'000;              ///< 46 days
inline constexpr std::uint64_t kNbdMaxDeadConnTimeout = 3'000'000'000;  ///< 95 years

struct NbdDeviceConfig {
  std::optional<std::uint32_t> index;  ///< none: the driver picks a free device or makes one
  std::vector<int> sockets;            ///< the kernel's ends, one for each hardware queue
  std::uint64_t size_bytes = 0;
  std::uint32_t block_size = 512;  ///< bytes, a power of two from 512 to the page size
  std::uint64_t server_flags = 0;  ///< kNbdSendFlush …
  std::uint64_t client_flags = 0;  ///< NBD_CFLAG_…
  /// A request unanswered for so long makes the driver shut its socket down and send it again on
  /// another one. 0: 30 s with several sockets (see NbdSysfs for a longer time), never with one.
  std::uint64_t timeout_s = 0;
  std::uint64_t dead_conn_timeout_s = 0;  ///< how long requests wait for RECONFIGURE with no socket
  std::string backend;                    ///< shown in sysfs; reconfigure() must repeat it
};

/// What may be changed on a connected device. Sockets replace dead ones only, lowest index first;
/// further ones are ignored by the driver without an error.
struct NbdChange {
  std::vector<int> sockets;
  std::optional<std::uint64_t> size_bytes;
  std::optional<std::uint64_t> timeout_s;
  std::optional<std::uint64_t> dead_conn_timeout_s;
  std::string backend;  ///< as it was given to connect()
};

struct NbdDeviceStatus {
  std::uint32_t index = 0;
  bool configured = false;  ///< connected, or merely open
};

class NbdNetlink {
 public:
  /// Errors: ENODEV if the kernel has no nbd driver loaded (or this is not its first network
  /// namespace), those of socket(2).
  static Result<NbdNetlink> open();

  NbdNetlink(NbdNetlink&&) noexcept = default;
  NbdNetlink& operator=(NbdNetlink&&) noexcept = default;

  /// Makes a device of `config` and returns its index. The driver may read from the device before
  /// this returns. Errors: EPERM (CAP_SYS_ADMIN is missing), EBUSY (the index is taken), EINVAL.
  Result<std::uint32_t> connect(const NbdDeviceConfig& config);

  /// Ends a device: Disconnect on every socket, EIO for what is in flight. Nothing is flushed. No
  /// error if it was not connected. Errors: EPERM, EINVAL (no such device).
  Status disconnect(std::uint32_t index);

  /// Errors: EPERM, EINVAL (not connected, or another backend).
  Status reconfigure(std::uint32_t index, const NbdChange& change);

  /// All devices of the driver, or the one with `index` (an empty list if there is none).
  Result<std::vector<NbdDeviceStatus>> status(std::optional<std::uint32_t> index = {});

 private:
  struct Close {
    void operator()(nl_sock* socket) const;
  };
  using Socket = std::unique_ptr<nl_sock, Close>;
  NbdNetlink(Socket socket, int family) : socket_(std::move(socket)), family_(family) {}

  Socket socket_;
  int family_ = 0;
};

}  // namespace rnbd::client
