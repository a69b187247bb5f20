// SPDX-License-Identifier: Apache-2.0
// The seam: what RTRS needs from a network, and nothing else. Two implementations: verbs/ (real
// adapters through libibverbs and librdmacm) and the tests' in-memory fabric, which moves real
// bytes and enforces keys. One contract suite (tests/contract) holds both to the laws below.
//
// Laws, for one connection (an Endpoint and its peer):
//  * Work is executed in the order it was posted; only a bind may be executed before what was
//    posted in front of it, other binds excepted. The data of a write is in the peer's memory
//    before a later immediate or send completes there; until then it may land in any order.
//  * Each immediate or send consumes one posted receive, in order. With none posted it waits.
//  * Keys, bounds and access rights are checked at the side that owns the memory. A violation
//    breaks the connection at both ends and writes nothing.
//  * A send longer than the receive it meets breaks the connection.
//  * After a break everything outstanding completes as Flushed, in order. What the peer had already
//    executed stays executed; nothing more is, binds excepted.
//  * Memory named by posted work may be read until that work completes, or the queue is closed.
//    Work that is not signalled completes, silently, when a later signalled one does; with a bind,
//    only binds do.
//  * A receive may complete before on_established is told; on_disconnected may be told before the
//    flushed completions are seen.
//  * close_queue() ends all access to memory: after it returns, nothing is read or written.
//
// Threads: Fabric, Device, and an Endpoint's connection half belong to the control thread, where
// all events are told too. An Endpoint's queue half (post, post_receives, poll, arm) belongs to one
// thread at a time, usually a worker.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/endian.h"
#include "common/result.h"

namespace rnbd::transport {

/// Memory an adapter may use. Dies before the memory does.
class Region {
 public:
  virtual ~Region() = default;
  [[nodiscard]] std::span<std::byte> memory() const { return memory_; }
  [[nodiscard]] std::uint32_t local_key() const { return local_key_; }
  [[nodiscard]] std::uint32_t remote_key() const { return remote_key_; }

 protected:
  std::span<std::byte> memory_;
  std::uint32_t local_key_ = 0;
  std::uint32_t remote_key_ = 0;
};

/// A revocable key to a part of a Region (a type 1 memory window: valid on every connection of its
/// device). Bound and unbound by work requests.
class Window {
 public:
  virtual ~Window() = default;
  /// The key that peers use, as of the last bind that was posted.
  [[nodiscard]] virtual std::uint32_t key() const = 0;
};

enum class RegionUse {
  Local,         ///< source of sends and writes, target of receives
  RemoteWrite,   ///< and a peer holding remote_key() may write into it
  WindowTarget,  ///< local; windows can be bound to it
};

struct Capabilities {
  std::string device;  ///< "rxe0"
  std::uint32_t max_send_work = 0;
  std::uint32_t max_receive_work = 0;
  bool windows = false;  ///< type 1 memory windows
};

/// One adapter. Outlives every Region, Window and Endpoint made on it.
class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual const Capabilities& capabilities() const = 0;

  /// Errors: ENOMEM names RLIMIT_MEMLOCK and its value when that is what was exceeded.
  virtual Result<std::unique_ptr<Region>> register_region(std::span<std::byte> memory,
                                                          RegionUse use) = 0;
  virtual Result<std::unique_ptr<Window>> make_window() = 0;
};

enum class WorkKind : std::uint8_t {
  Write,           ///< RDMA write of `source` to `remote`; an empty source needs no remote
  WriteImmediate,  ///< the same, then an immediate
  Send,
  SendImmediate,
  SendInvalidate,  ///< an empty send that revokes the peer's key `remote.key`
  BindWindow,      ///< `window` becomes a key to `source` of `region`; an empty source revokes it
};

struct LocalMemory {
  const std::byte* address = nullptr;
  std::uint32_t length = 0;
  std::uint32_t key = 0;  ///< of the Region it lies in
};

struct RemoteMemory {
  std::uint64_t address = 0;
  std::uint32_t key = 0;
};

struct WorkRequest {
  WorkKind kind = WorkKind::Write;
  bool signalled = false;
  std::uint64_t id = 0;  ///< comes back in Completion::id
  LocalMemory source;
  RemoteMemory remote;
  std::uint32_t immediate = 0;  ///< host order
  Window* window = nullptr;
  Region* region = nullptr;
  Le<std::uint32_t>* key_to = nullptr;  ///< gets the window's new key before work behind it begins
};

struct ReceiveRequest {
  std::uint64_t id = 0;
  std::byte* address = nullptr;
  std::uint32_t length = 0;  ///< 0: takes immediates and empty sends only
  std::uint32_t key = 0;
};

enum class CompletionKind : std::uint8_t {
  Done,               ///< work that was signalled
  Receive,            ///< a send
  ReceiveImmediate,   ///< a send with an immediate
  WriteImmediate,     ///< a peer's write with an immediate
  ReceiveInvalidate,  ///< a send that revoked `invalidated_key`
};

enum class CompletionStatus : std::uint8_t {
  Success,
  Flushed,            ///< the connection broke or was ended; the peer may have executed it or not
  RemoteRefused,      ///< the peer refused key, bounds or operation
  LocalError,         ///< our own key, bounds or length were wrong
  PeerNotResponding,  ///< retries ran out
  Other,
};

struct Completion {
  CompletionKind kind = CompletionKind::Done;  ///< meaningless unless Success
  CompletionStatus status = CompletionStatus::Success;
  std::uint64_t id = 0;
  std::uint32_t length = 0;     ///< bytes received
  std::uint32_t immediate = 0;  ///< host order
  std::uint32_t invalidated_key = 0;
};

/// How large a connection's queues are, in work requests.
struct QueueSize {
  std::uint32_t send_work = 0;
  std::uint32_t receive_work = 0;
  bool binds = false;  ///< BindWindow will be posted
};

/// What happens to a connection; told on the control thread. None is told twice, and none after
/// on_disconnected, on_rejected or on_failed.
class EndpointEvents {
 public:
  virtual ~EndpointEvents() = default;
  /// Active side: the device is known. Open the queue, post receives, then connect().
  virtual void on_resolved() = 0;
  /// The connection carries traffic. `private_data` is the peer's (active side; may be padded).
  virtual void on_established(std::span<const std::byte> private_data) = 0;
  /// The peer's program said no, in its own words (empty if it had none).
  virtual void on_rejected(std::span<const std::byte> private_data) = 0;
  /// It could not be reached, resolved or accepted.
  virtual void on_failed(const Error& error) = 0;
  /// It ended: by the peer, the network, or because the device went away.
  virtual void on_disconnected(const std::string& reason) = 0;
};

class Endpoint {
 public:
  virtual ~Endpoint() = default;

  // Control thread.
  virtual void set_events(EndpointEvents& events) = 0;
  [[nodiscard]] virtual Device& device() = 0;  ///< once resolved, or on the passive side
  virtual Status open_queue(const QueueSize& size) = 0;
  virtual Status connect(std::span<const std::byte> private_data) = 0;
  virtual Status accept(std::span<const std::byte> private_data) = 0;
  virtual void reject(std::span<const std::byte> private_data) = 0;
  /// Breaks the connection: outstanding work is flushed, the peer is told. May be called again.
  virtual void disconnect() = 0;
  /// Destroys the queue; the thread that polled it has stopped doing so.
  virtual void close_queue() = 0;
  [[nodiscard]] virtual std::string local_address() const = 0;  ///< "ip:10.9.0.1", "gid:fe80::1"
  [[nodiscard]] virtual std::string peer_address() const = 0;

  // The queue's thread. Valid between open_queue and close_queue.
  /// All of it, or an error and the connection is broken. Never more than the queue has room for:
  /// the caller counts. A signalled bind may have completed when this returns, and wait_fd() says
  /// nothing of it: its caller polls again before it sleeps.
  virtual Status post(std::span<const WorkRequest> work) = 0;
  virtual Status post_receives(std::span<const ReceiveRequest> receives) = 0;
  virtual std::size_t poll(std::span<Completion> out) = 0;
  /// Asks for the next completion to be signalled on wait_fd(). False if one is there already.
  virtual bool arm() = 0;
  [[nodiscard]] virtual int wait_fd() const = 0;
};

class ListenerEvents {
 public:
  virtual ~ListenerEvents() = default;
  /// Somebody wants to connect; told on the control thread. accept() or reject() the endpoint, now
  /// or later; dropping it refuses too. `private_data` is valid during the call.
  virtual void on_connect_request(std::unique_ptr<Endpoint> endpoint,
                                  std::span<const std::byte> private_data) = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
};

/// "ip:10.9.0.2", "ip:[fe80::1%eth0]" or "gid:fe80::…", and a port (0: any, for a source).
struct Address {
  std::string text;
  std::uint16_t port = 0;
};

class Fabric {
 public:
  virtual ~Fabric() = default;

  /// Begins to connect; `source.text` may be empty. Everything else comes as events. Errors found
  /// at once: EINVAL (not an address), ENODEV (no RDMA device on this host), EADDRNOTAVAIL.
  virtual Result<std::unique_ptr<Endpoint>> dial(const Address& source, const Address& destination,
                                                 EndpointEvents& events) = 0;

  /// `address.text` empty: all of them, IPv4 and IPv6.
  virtual Result<std::unique_ptr<Listener>> listen(const Address& address,
                                                   ListenerEvents& events) = 0;

  /// From now on `call` is called, on the control thread, when a port of this host has come up or
  /// got an address, or a silent host answers: what could not be reached before may be reached now.
  virtual void on_link_up(std::function<void()> call) = 0;
};

}  // namespace rnbd::transport
