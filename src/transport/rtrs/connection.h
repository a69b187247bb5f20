// SPDX-License-Identifier: Apache-2.0
// What a connection of either side is made of: an endpoint, its receives and its send queue. The
// control thread opens and closes it; in between its worker polls it. A connection that fails says
// so once, on the control thread, and is left alone from then on.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/executor.h"
#include "common/limits.h"
#include "common/memory_block.h"
#include "common/result.h"
#include "transport/fabric.h"
#include "transport/rtrs/immediate.h"
#include "transport/rtrs/work_chain.h"
#include "transport/worker.h"

namespace rnbd::rtrs {

/// Told on the control thread.
class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;
  virtual void on_connection_failed(std::uint16_t cid, const Error& error) = 0;
  /// The first message on connection 0: INFO_REQ or INFO_RSP.
  virtual void on_info(std::vector<std::byte> message) = 0;
  /// A client's: its server's heartbeats carry another number than before.
  virtual void on_server_generation() {}
};

/// A count that grows while a path's peer is heard, on whatever connection; connection 0's worker
/// writes it, a few times a second.
using Beats = std::atomic<std::uint32_t>;

/// Adapters lose connections without a word, and so do switches: what was posted is never done, and
/// never fails. Heartbeats do not notice where other connections of the path go on. So whoever has
/// posted work posts an empty write behind it, signalled, and gives the connection up if nothing is
/// done for some seconds, by a count of looks, while its peer is heard. No peer sees such a write.
class Connection : public Pollable, private Timed {
 public:
  Connection(std::uint16_t cid, WorkerContext& worker, Executor& control, ConnectionEvents& events,
             const Beats& beats)
      : cid_(cid), worker_(worker), control_(control), events_(events), beats_(beats) {}
  ~Connection() override;

  // Control thread, before attach().

  /// Takes the endpoint; its queue is opened by open().
  void own(std::unique_ptr<transport::Endpoint> endpoint) { endpoint_ = std::move(endpoint); }
  [[nodiscard]] transport::Endpoint& endpoint() { return *endpoint_; }
  [[nodiscard]] bool has_endpoint() const { return endpoint_ != nullptr; }

  /// The endpoint, without a queue, back from a connection that was never attached.
  std::unique_ptr<transport::Endpoint> give_back();

  /// Opens the queue.
  Status open(const transport::QueueSize& size);

  /// Posts the receives: first one of `info_bytes` for the handshake's message (0: none is
  /// awaited), then `count` small ones, which take immediates and key responses.
  Status post_receives(std::uint32_t count, std::size_t info_bytes);

  /// Starts polling. From here on the worker owns the queue half.
  void attach();

  /// Stops polling, on the worker. Both are called on the control thread, in this order: `let_go`
  /// when the worker is through with the endpoint, `idle` when no request needs this object.
  void detach(Executor::Task let_go, Executor::Task idle);

  /// Ends all access to memory and forgets the endpoint. Once the worker has let go.
  void close();

  [[nodiscard]] std::uint16_t cid() const { return cid_; }
  [[nodiscard]] bool attached() const { return attached_; }
  [[nodiscard]] std::uint64_t arrivals() const { return arrivals_.load(std::memory_order_relaxed); }

  // Worker's thread.
  std::size_t poll() override;
  void flush() override;
  bool arm() override { return failed_ || endpoint_->arm(); }
  [[nodiscard]] int wait_fd() const override { return endpoint_->wait_fd(); }

  /// An empty message that is nothing but an immediate.
  void send_immediate(Immediate immediate);

  /// Sends the handshake's message. Once in the life of a connection. Control thread before
  /// attach(), worker's after.
  void send_info(std::span<const std::byte> message);

  /// Gives the connection up: nothing more is sent or handled, and control is told.
  void fail_connection(Error error);

 protected:
  /// A peer's immediate, by write or by send; `body` is what a send brought.
  virtual void on_immediate(Immediate immediate, bool by_send, std::span<const std::byte> body) = 0;
  /// A bind that was added with add_signalled().
  virtual void on_own_work_done(std::uint32_t index) { static_cast<void>(index); }
  /// The send queue has room again.
  virtual void on_room() {}
  /// It was detached: nothing will complete here any more.
  virtual void on_stopped() {}
  /// Do requests still need this object after it was detached?
  [[nodiscard]] virtual bool busy() const { return false; }
  /// For busy(): it may have become false.
  void check_idle();

  [[nodiscard]] WorkChain& chain() { return *chain_; }
  [[nodiscard]] WorkerContext& worker() { return worker_; }
  [[nodiscard]] bool failed() const { return failed_; }
  void want_flush();
  /// Runs `tell` on the control thread.
  void tell(void (ConnectionEvents::*what)());

 private:
  [[nodiscard]] TimePoint deadline() const override { return next_look_; }
  void on_deadline(TimePoint now) override;
  void handle(const transport::Completion& completion);
  void on_receive(const transport::Completion& completion);
  [[nodiscard]] transport::ReceiveRequest receive_request(std::uint32_t slot) const;

  const std::uint16_t cid_;
  WorkerContext& worker_;
  Executor& control_;
  ConnectionEvents& events_;
  const Beats& beats_;

  MemoryBlock memory_;  ///< [info received][info to send][small receives]
  std::unique_ptr<transport::Endpoint> endpoint_;
  std::unique_ptr<transport::Region> region_;
  std::unique_ptr<WorkChain> chain_;
  std::size_t info_bytes_ = 0;
  bool attached_ = false;

  // Worker's.
  std::vector<transport::ReceiveRequest> reposts_;  ///< collected in a round, posted in one go
  std::array<transport::Completion, limits::kPollBatch> completions_{};
  Executor::Task on_idle_;  ///< once detached
  bool failed_ = false;
  std::atomic<std::uint64_t> arrivals_ = 0;
  std::size_t polled_beats_ = 0;  ///< heartbeats and answers to them, in one poll()
  TimePoint next_look_ = kNever;  ///< while work is not done
  std::uint32_t seen_done_ = 0;   ///< by the last look
  std::uint32_t seen_beats_ = 0;
  unsigned still_ = 0;  ///< looks in a row that found nothing done
};

}  // namespace rnbd::rtrs
