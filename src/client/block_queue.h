// SPDX-License-Identifier: Apache-2.0
// One device on one worker: takes NBD requests from a socket, sends them to the server through a
// request channel, and answers them. Made by the control thread; from start() on everything,
// destruction too, happens on the worker's thread.
//
// Always holds:
//  * Each request the kernel sent is answered exactly once, unless the socket ends first.
//  * A WRITE asks for one permit at a time and holds none that is unsent but the one whose buffer
//    its payload is arriving in; a READ takes all of its permits at once or none. So whoever holds
//    a permit never waits for another one, and requests cannot block each other for ever.
//  * While permits or request slots are short the socket is not read: the kernel waits.
//  * Permits return only when nobody reads their buffers any more.
//  * The journal knows each step before it can be seen from outside, so that a successor in another
//    process goes on where this one was killed: it answers what is unanswered, after doing it
//    (again, perhaps, which changes nothing before the answer), and nothing else.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "client/io_plan.h"
#include "client/journal.h"
#include "client/nbd_socket.h"
#include "common/executor.h"
#include "common/latency.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "transport/rtrs/request_channel.h"
#include "transport/worker.h"

namespace rnbd::client {

/// What a queue has done since it was made, and what it is doing.
struct BlockQueueCounters {
  std::uint64_t reads = 0;  ///< requests answered, failed ones too
  std::uint64_t writes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t discards = 0;
  std::uint64_t zeroes = 0;
  std::uint64_t read_bytes = 0;  ///< of requests that succeeded
  std::uint64_t written_bytes = 0;
  std::uint64_t errors = 0;  ///< requests answered with an error
  std::uint64_t permit_waits = 0;
  IoLatencies latencies;  ///< from a request's header to its answer
  /// Of those that the server has answered: until the first byte was handed to a path, and from
  /// then on. Together they are `latencies`.
  IoLatencies queue_latencies;
  IoLatencies wire_latencies;
  std::uint32_t in_flight = 0;  ///< taken from the kernel and not yet answered
  bool waiting = false;         ///< for permits, at the moment

  BlockQueueCounters& operator+=(const BlockQueueCounters& other);
};

/// A request that took long, when it was answered.
struct SlowRequest {
  IoKind kind{};
  std::uint64_t offset = 0;  ///< bytes
  std::uint32_t length = 0;  ///< bytes
  int error = 0;             ///< it was answered with
  Duration taken{};
  Duration queued{};  ///< before it was handed to a path
  /// Number of the path that brought the answer; none if the server did not answer it.
  std::optional<std::uint8_t> path;
};

class BlockQueue;

/// Told on the worker's thread, inside the queue's calls: do not destroy the queue there.
class BlockQueueEvents {
 public:
  virtual ~BlockQueueEvents() = default;
  /// The kernel said it will close: the device was disconnected, by us or by somebody else.
  virtual void on_disconnect_request(BlockQueue& queue) = 0;
  /// The socket is finished (EPIPE: the kernel closed it; EPROTO: it sent nonsense). What was in
  /// flight is given up. Told once.
  virtual void on_socket_ended(BlockQueue& queue, const Error& error) = 0;
  /// A request took Config::slow_io or longer.
  virtual void on_slow_request(const SlowRequest& request) { static_cast<void>(request); }
};

class BlockQueue final : public Pollable,
                         private rtrs::RequestOwner,
                         private rtrs::PermitWaiter,
                         private NbdSocketEvents {
 public:
  struct Config {
    DeviceShape shape;
    std::uint32_t device_id = 0;     ///< OPEN_RSP's
    std::uint32_t permit_ids = 512;  ///< the channel's PermitIds are below this: the queue depth
    /// Requests taken from the kernel at one time. It has 128 tags for each socket, and more to
    /// send on this one when others have died.
    std::uint32_t max_requests = 256;
    Duration slow_io = Duration::max();  ///< from when on a request is told of

    [[nodiscard]] JournalShape journal_shape() const { return {max_requests, permit_ids}; }
  };

  /// `socket`: our end of a pair. `journal`: memory for config.journal_shape(), all zeroes or what
  /// a predecessor left, whose permits are held for us then (Journal::permits). Channel, worker and
  /// memory outlive the queue. Errors: EINVAL if the device's block size makes no sense, or the
  /// server takes less than a block in a request; EPROTO for a journal that is none.
  static Result<std::unique_ptr<BlockQueue>> create(WorkerContext& worker,
                                                    rtrs::RequestChannel& channel, UniqueFd socket,
                                                    std::span<std::byte> journal,
                                                    const Config& config, BlockQueueEvents& events);
  BlockQueue(const BlockQueue&) = delete;
  BlockQueue& operator=(const BlockQueue&) = delete;

  /// Gives up what is in flight without answering it. Worker's thread once started.
  ~BlockQueue() override;

  /// Begins to serve the socket, after what a predecessor left.
  void start();

  /// Takes no more requests; `done` once all that were taken are answered.
  void drain(Executor::Task done);

  /// Answers everything in flight, and from now on everything that still arrives, with EIO; nothing
  /// more goes to the channel. The socket is read until the kernel closes it: a disconnect would
  /// wait for ever behind a WRITE that nobody takes.
  void close();

  /// Serves again, after close().
  void reopen() { closed_ = intake_ == Intake::Ended; }

  /// Requests taken from the kernel and not yet answered. Any thread.
  [[nodiscard]] std::uint32_t in_flight() const {
    return in_flight_.load(std::memory_order_relaxed);
  }

  /// The device was opened again: the id, and what the server says about it now.
  /// The block size stays what it was.
  void set_device_id(std::uint32_t device_id) { device_id_ = device_id; }
  void set_shape(const DeviceShape& shape);

  /// Worker's thread, once started.
  [[nodiscard]] BlockQueueCounters counters() const;

  // Pollable
  std::size_t poll() override;
  [[nodiscard]] bool drained() const override { return drained_; }
  void flush() override;
  [[nodiscard]] int wait_fd() const override { return socket_.fd(); }

 private:
  BlockQueue(WorkerContext& worker, rtrs::RequestChannel& channel, UniqueFd socket,
             std::span<std::byte> journal, const Config& config, BlockQueueEvents& events);

  static constexpr std::uint16_t kNone = 0xffff;
  static constexpr std::size_t kStepsPerPoll = 32;
  /// Pieces of one TRIM or WRITE_ZEROES that are under way together.
  static constexpr std::uint32_t kPiecesInFlight = 4;

  /// What the socket's next bytes are for. Belongs to the request at the head, `head_`.
  enum class Intake : std::uint8_t {
    Header,   ///< no request is half taken; woken by the socket, or by a slot becoming free
    Permits,  ///< the head needs permits; on_permits_available goes on
    Payload,  ///< of the head, into the buffer of `head_permit_`; woken by the socket
    Refuse,   ///< payload of the head, which has failed already; woken by the socket
    Ended,
  };

  enum class Step : std::uint8_t { Again, Pause, Idle };

  enum class State : std::uint8_t { Free, Open, Replying };

  struct Request {
    State state = State::Free;
    IoKind kind = IoKind::Read;
    rtrs::Direction direction = rtrs::Direction::Read;
    bool carries_data = false;
    int error = 0;  ///< the first of its pieces
    std::uint32_t operation = 0;
    NbdCookie cookie{};
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    std::uint32_t submitted = 0;        ///< bytes, from the start
    std::uint32_t in_flight = 0;        ///< pieces
    std::uint16_t first_piece = kNone;  ///< READ: its permits, in the order of the data
    TimePoint begun;                    ///< when its header was taken; of a predecessor's: never
    TimePoint sent = kNever;            ///< the first of its pieces that were answered
    std::uint8_t path = 0;              ///< of the last one that was answered
  };

  /// What there is to know about a permit while it is ours; its number is the index.
  struct Piece {
    std::uint16_t request = kNone;
    std::uint16_t next = kNone;  ///< of the same READ
    bool in_flight = false;
    std::uint32_t length = 0;
  };

  // Taking requests in: block_queue.cc
  Step step();
  Step take_header();
  Step admit(const NbdRequest& request);
  Step take_permits();
  Step take_payload();
  Step refuse_payload();
  [[nodiscard]] std::uint32_t permits_for(const Request& request) const;
  [[nodiscard]] std::uint32_t next_length(const Request& request) const;

  Request begin_request(const NbdRequest& request) const;
  void fail(std::uint16_t slot, int error);

  // What a predecessor left: block_resume.cc
  void resume();
  void resume_write(std::uint16_t slot);
  void resume_reply(std::uint16_t slot, std::size_t sent);
  Step take_left_over();
  void check_drained();

  // What becomes of them: block_request.cc
  void submit_read(std::uint16_t slot, std::span<const rtrs::PermitId> permits);
  void start_pieces(std::uint16_t slot, rtrs::PermitId first);
  void submit_piece(std::uint16_t slot, rtrs::PermitId permit, std::uint32_t length);
  void send_piece(std::uint16_t slot, rtrs::PermitId permit, std::uint32_t offset,
                  std::uint32_t length);
  void on_request_done(rtrs::PermitId permit, int error) override;
  void on_request_renewed(rtrs::PermitId permit, std::span<std::byte> user_message) override;
  void on_permits_available() override;
  void on_reply_taken(std::uint32_t slot) override;
  void finish(std::uint16_t slot);
  void count(const Request& request);
  void time(const Request& request, LatencyHistogram IoLatencies::* kind);
  void tell_slow(const Request& request, Duration taken);
  void release(rtrs::PermitId permit);
  void release_read(Request& request);
  void free_slot(std::uint16_t slot);
  void count_in_flight();
  void give_up();
  void end();

  WorkerContext& worker_;
  rtrs::RequestChannel& channel_;
  BlockQueueEvents& events_;
  Journal journal_;
  Journal::Recovered recovered_;
  NbdSocket socket_;
  DeviceShape shape_;
  std::uint32_t device_id_;
  std::uint32_t max_data_;  ///< of one piece
  const Duration slow_io_;

  std::vector<Request> requests_;
  std::vector<std::uint16_t> free_slots_;
  std::vector<Piece> pieces_;
  std::vector<rtrs::PermitId> permits_;  ///< scratch for acquire() and release()
  std::array<std::byte, 4096> bin_{};    ///< takes payload that nobody wants

  Intake intake_ = Intake::Header;
  std::uint16_t head_ = kNone;
  rtrs::PermitId head_permit_ = 0;
  std::uint32_t head_received_ = 0;  ///< Payload: bytes of the current piece
  std::uint32_t refuse_left_ = 0;    ///< Refuse: bytes to go
  bool started_ = false;
  bool closed_ = false;
  bool waiting_ = false;       ///< the channel owes us on_permits_available
  bool out_of_slots_ = false;  ///< free_slot() is to wake us
  bool drained_ = false;       ///< the last poll() came to an end: a signal or wake() is next
  bool flush_wanted_ = false;
  std::atomic<std::uint32_t> in_flight_ = 0;  ///< slots that are not free; written by the worker
  std::size_t left_over_ = 0;                 ///< of recovered_.open, done so far
  bool draining_ = false;                     ///< takes no more requests
  Executor::Task on_drained_;
  BlockQueueCounters counters_;
};

}  // namespace rnbd::client
