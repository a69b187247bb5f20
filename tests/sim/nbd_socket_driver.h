// SPDX-License-Identifier: Apache-2.0
// The driver's end of a socket pair: sends requests as drivers/block/nbd.c does and checks replies
// as its nbd_handle_reply() does, where each violation would kill the socket. Does not block; the
// test decides how many bytes it sends and reads at a time. One thread.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <sys/socket.h>

#include "client/nbd_wire.h"
#include "common/unique_fd.h"

namespace rnbd::sim {

class NbdSocketDriver {
 public:
  using Tag = std::uint32_t;

  /// One request and what became of it.
  struct Request {
    client::NbdCommand command{};
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    bool sent = false;
    bool answered = false;
    std::uint32_t error = 0;
    std::vector<std::byte> data;  ///< sent by a WRITE, or received by a READ
  };

  explicit NbdSocketDriver(UniqueFd socket) : socket_(std::move(socket)) {}
  virtual ~NbdSocketDriver() = default;
  NbdSocketDriver(NbdSocketDriver&&) = default;

  Tag read(std::uint64_t offset, std::uint32_t length) {
    return send(client::NbdCommand::Read, 0, offset, length);
  }
  Tag write(std::uint64_t offset, std::vector<std::byte> data, std::uint16_t flags = 0) {
    const auto length = static_cast<std::uint32_t>(data.size());
    return send(client::NbdCommand::Write, flags, offset, length, std::move(data));
  }
  Tag flush() { return send(client::NbdCommand::Flush, 0, 0, 0); }
  Tag trim(std::uint64_t offset, std::uint32_t length) {
    return send(client::NbdCommand::Trim, 0, offset, length);
  }
  Tag write_zeroes(std::uint64_t offset, std::uint32_t length, std::uint16_t flags = 0) {
    return send(client::NbdCommand::WriteZeroes, flags, offset, length);
  }
  void disconnect() { put_header(client::NbdCommand::Disconnect, 0, {}, 0, 0); }

  /// Any request; a WRITE's `data` need not fit its `length`.
  Tag send(client::NbdCommand command, std::uint16_t flags, std::uint64_t offset,
           std::uint32_t length, std::vector<std::byte> data = {}) {
    const Tag tag = static_cast<Tag>(requests_.size());
    put_header(command, flags, cookie(tag), offset, length);
    put(data);
    ends_.push_back({tag, bytes_queued_});
    requests_.push_back(
        {.command = command, .offset = offset, .length = length, .data = std::move(data)});
    return tag;
  }

  void put(std::span<const std::byte> bytes) {
    if (all_sent()) outgoing_.clear(), outgoing_sent_ = 0;
    outgoing_.insert(outgoing_.end(), bytes.begin(), bytes.end());
    bytes_queued_ += bytes.size();
  }

  /// Sends and receives what it may; false if nothing moved.
  bool pump() {
    const bool sent = push();
    const bool received = pull();
    return sent || received;
  }

  void close() { socket_.reset(); }
  /// The other end is closed.
  [[nodiscard]] bool ended() const { return ended_; }

  Request& operator[](Tag tag) { return requests_[tag]; }
  [[nodiscard]] bool all_sent() const { return outgoing_sent_ == outgoing_.size(); }
  [[nodiscard]] std::size_t unanswered() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(requests_, [](const Request& one) { return !one.answered; }));
  }
  [[nodiscard]] const std::deque<Request>& requests() const { return requests_; }

  std::size_t send_step = std::numeric_limits<std::size_t>::max();  ///< bytes in one pump()
  std::size_t receive_step = std::numeric_limits<std::size_t>::max();

 private:
  struct End {
    Tag tag = 0;
    std::uint64_t offset = 0;  ///< in the stream of all requests
  };

  /// The other end broke a rule, after which a kernel would close the socket.
  virtual void on_violation(const char* what) = 0;
  /// It has been answered, data and all.
  virtual void on_answered(Tag /*tag*/) {}

  void violated(const char* what) {
    ended_ = true;
    on_violation(what);
  }

  static constexpr std::uint32_t kGeneration = 0x5eed0000;

  static client::NbdCookie cookie(Tag tag) {
    client::NbdCookie bytes;
    store<Le<std::uint32_t>>(bytes, tag, 0);
    store<Le<std::uint32_t>>(bytes, kGeneration + tag, 4);
    return bytes;
  }

  void put_header(client::NbdCommand command, std::uint16_t flags, client::NbdCookie cookie,
                  std::uint64_t offset, std::uint32_t length) {
    client::NbdRequestHeader header;
    header.magic = client::kNbdRequestMagic;
    header.flags = flags;
    header.command = static_cast<std::uint16_t>(command);
    header.cookie = cookie;
    header.offset = offset;
    header.length = length;
    put(std::as_bytes(std::span(&header, 1)));
  }

  bool push() {
    bool moved = false;
    for (std::size_t allowed = send_step; allowed > 0 && !all_sent();) {
      const std::size_t length = std::min(allowed, outgoing_.size() - outgoing_sent_);
      const ssize_t count = ::send(socket_.get(), outgoing_.data() + outgoing_sent_, length,
                                   MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count <= 0) break;
      moved = true;
      allowed -= static_cast<std::size_t>(count);
      outgoing_sent_ += static_cast<std::size_t>(count);
      bytes_sent_ += static_cast<std::uint64_t>(count);
    }
    while (!ends_.empty() && ends_.front().offset <= bytes_sent_) {
      requests_[ends_.front().tag].sent = true;
      ends_.pop_front();
    }
    return moved;
  }

  bool pull() {
    bool moved = false;
    for (std::size_t allowed = receive_step; allowed > 0 && !ended_;) {
      const std::span<std::byte> target = wanted();
      const std::size_t length = std::min(allowed, target.size());
      const ssize_t count = ::recv(socket_.get(), target.data(), length, MSG_DONTWAIT);
      if (count == 0 && length > 0) ended_ = true;
      if (count <= 0) break;
      moved = true;
      allowed -= static_cast<std::size_t>(count);
      got_ += static_cast<std::size_t>(count);
      if (static_cast<std::size_t>(count) == target.size()) complete();
    }
    return moved;
  }

  /// Where the next bytes go.
  std::span<std::byte> wanted() {
    if (reading_) return std::span(requests_[*reading_].data).subspan(got_);
    return std::as_writable_bytes(std::span(&reply_, 1)).subspan(got_);
  }

  void complete() {
    got_ = 0;
    if (reading_) {
      requests_[*reading_].answered = true;
      on_answered(*std::exchange(reading_, std::nullopt));
      return;
    }
    if (reply_.magic != client::kNbdReplyMagic) return violated("wrong magic");
    const Tag tag = load<Le<std::uint32_t>>(reply_.cookie, 0);
    if (tag >= requests_.size()) return violated("unexpected reply");
    if (load<Le<std::uint32_t>>(reply_.cookie, 4) != kGeneration + tag) {
      return violated("wrong generation");
    }
    Request& request = requests_[tag];
    if (!request.sent) return violated("answered before all of it was sent");
    if (request.answered) return violated("double reply");
    request.error = reply_.error;
    if (request.command == client::NbdCommand::Read && request.error == 0) {
      request.data.resize(request.length);
      reading_ = tag;
    } else {
      request.answered = true;
      on_answered(tag);
    }
  }

  UniqueFd socket_;
  bool ended_ = false;
  std::vector<std::byte> outgoing_;
  std::size_t outgoing_sent_ = 0;  ///< of it
  std::uint64_t bytes_queued_ = 0;
  std::uint64_t bytes_sent_ = 0;
  std::deque<End> ends_;
  std::deque<Request> requests_;
  client::NbdReplyHeader reply_;
  std::size_t got_ = 0;
  std::optional<Tag> reading_;
};

}  // namespace rnbd::sim
