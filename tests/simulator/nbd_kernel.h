// SPDX-License-Identifier: Apache-2.0
// The NBD driver of one simulated client host, with its devices and whoever uses them. It outlives
// the daemon. Requests go over real socket pairs and are checked as the real driver does. One
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/nbd_driver.h"
#include "common/executor.h"
#include "sim/nbd_socket_driver.h"
#include "simulator/world.h"

namespace rnbd::simulator {

/// What is asked of a device. `done`: an errno, and a READ's data.
struct DeviceRequest {
  using Done = std::move_only_function<void(int error, std::span<const std::byte> data)>;

  client::NbdCommand command{};
  bool fua = false;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  std::vector<std::byte> data;
  Done done;
};

/// /dev/nbdN. Each request is answered once; what is under way when it is disconnected fails.
class NbdDevice {
 public:
  /// `max_request`: bytes of one read or write; the block layer cuts what is longer.
  NbdDevice(World& world, std::uint32_t index, client::NbdDeviceConfig config,
            std::vector<UniqueFd> sockets, std::uint32_t max_request);

  void submit(DeviceRequest request);
  /// Moves bytes on all sockets; false if there was nothing to move. A socket on which nothing
  /// moved is looked at again after stir().
  bool pump();
  void stir();
  /// Requests to end are sent, nothing is read any more, and everything under way fails.
  void disconnect();

  void resize(std::uint64_t bytes) { config_.size_bytes = bytes; }

  [[nodiscard]] std::uint32_t index() const { return index_; }
  [[nodiscard]] const client::NbdDeviceConfig& config() const { return config_; }
  [[nodiscard]] std::uint32_t max_request() const { return max_request_; }
  [[nodiscard]] std::size_t under_way() const;
  /// A socket of it was closed by the daemon, or had to be closed.
  [[nodiscard]] bool is_broken() const;
  /// Nobody has it open for anything else (mkfs, a mount).
  bool in_use = false;

 private:
  class Socket final : public sim::NbdSocketDriver {
   public:
    Socket(World& world, std::uint32_t device, UniqueFd socket)
        : NbdSocketDriver(std::move(socket)), world_(world), device_(device) {}
    std::map<Tag, DeviceRequest::Done> waiting;
    bool quiet = false;

   private:
    void on_violation(const char* what) override { world_.fail("nbd{}: {}", device_, what); }
    void on_answered(Tag tag) override;

    World& world_;
    const std::uint32_t device_;
  };

  World& world_;
  const std::uint32_t index_;
  client::NbdDeviceConfig config_;
  const std::uint32_t max_request_;
  std::vector<std::unique_ptr<Socket>> sockets_;
  bool connected_ = true;
};

class NbdKernel final : public client::NbdDriver {
 public:
  explicit NbdKernel(World& world) : world_(world) {}

  /// The daemon that calls from now on; answers to the last one go nowhere.
  void serve(Executor& daemon) {
    daemon_ = &daemon;
    ++life_;
  }

  void attach(client::NbdDeviceConfig config, std::vector<UniqueFd> sockets,
              std::uint32_t max_request,
              std::move_only_function<void(Result<std::uint32_t>)> done) override;
  void detach(std::uint32_t index, bool force, std::move_only_function<void(Status)> done) override;
  void resize(std::uint32_t index, std::uint64_t size_bytes, std::string backend,
              std::move_only_function<void(Status)> done) override;
  void detach_leftover(std::optional<std::uint32_t> index, std::string backend,
                       std::move_only_function<void(Status)> done) override;

  bool pump();
  /// The daemon may have sent something.
  void stir();
  [[nodiscard]] NbdDevice* find(std::uint32_t index);
  [[nodiscard]] NbdDevice* find(const std::string& backend);
  [[nodiscard]] std::size_t devices() const { return devices_.size(); }
  /// The daemon is gone and nobody keeps its sockets.
  void lose_sockets();

  /// Told before a device goes away, whoever took it away.
  std::function<void(std::uint32_t index)> on_gone;

 private:
  template <typename Answer, typename Value>
  void answer(Answer done, Value value);
  void remove(std::uint32_t index);

  World& world_;
  Executor* daemon_ = nullptr;
  std::uint32_t life_ = 0;
  std::map<std::uint32_t, std::unique_ptr<NbdDevice>> devices_;
  std::vector<std::unique_ptr<NbdDevice>> removed_;  ///< inside their own calls, perhaps
};

}  // namespace rnbd::simulator
