// SPDX-License-Identifier: Apache-2.0
#include "client/supervisor.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <optional>
#include <poll.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/control/exit_codes.h"
#include "common/log.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace rnbd::client {
namespace {

/// A daemon that dies younger than this may go on doing so: not without a pause.
constexpr std::chrono::milliseconds kInfancy{2000};
constexpr std::chrono::milliseconds kPause{500};
constexpr std::size_t kMaxKept = 4096;
constexpr int kFirstPassed = 3;

/// What the daemon sent: lines of sd_notify(3).
struct Notice {
  std::string name;
  bool ready = false;
  bool keep = false;
  bool forget = false;
};

Notice parse(std::string_view text) {
  Notice notice;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line == "READY=1") notice.ready = true;
    if (line == "FDSTORE=1") notice.keep = true;
    if (line == "FDSTOREREMOVE=1") notice.forget = true;
    if (line.starts_with("FDNAME=")) notice.name = line.substr(7);
  }
  return notice;
}

/// Who sent it, and the descriptor that came with it.
pid_t open_envelope(msghdr& message, UniqueFd& fd) {
  ucred sender{};
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_CREDENTIALS) {
      std::memcpy(&sender, CMSG_DATA(header), sizeof sender);
    } else if (header->cmsg_type == SCM_RIGHTS) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header), sizeof number);
      fd.reset(number);
    }
  }
  return sender.pid;
}

class Supervisor {
 public:
  static Result<Supervisor> create(const DaemonOptions& options);
  int run();

 private:
  Supervisor() = default;

  Status start_daemon();
  [[noreturn]] void become_daemon();
  /// Until it is dead; the answer is waitpid's status.
  int attend();
  void on_signal();
  std::optional<int> reap();
  bool take_notice();

  std::string program_;
  std::vector<std::string> arguments_;
  std::string address_;  ///< of notices_, as NOTIFY_SOCKET has it
  UniqueFd notices_;
  UniqueFd signals_;
  sigset_t old_mask_{};
  pid_t daemon_ = -1;
  bool ready_ = false;     ///< it can be told to stop, and takes nothing for an order to die
  bool stopping_ = false;  ///< it was told, or will be
  std::map<std::string, UniqueFd> kept_;
};

Result<Supervisor> Supervisor::create(const DaemonOptions& options) {
  Supervisor made;
  std::array<char, 4096> path{};
  if (::readlink("/proc/self/exe", path.data(), path.size() - 1) < 0) {
    return fail(errno, "cannot find out which program this is");
  }
  made.program_ = path.data();
  made.arguments_ = options.arguments;
  made.arguments_.insert(made.arguments_.begin(), made.program_);

  made.notices_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  socklen_t length = sizeof(sa_family_t);  // the kernel finds a name that nobody has
  auto* const generic = reinterpret_cast<sockaddr*>(&address);  // NOLINT(*-reinterpret-cast)
  if (!made.notices_ || ::bind(made.notices_.get(), generic, length) != 0 ||
      ::setsockopt(made.notices_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) {
    return fail(errno, "cannot make a socket for notices");
  }
  length = sizeof address;
  ::getsockname(made.notices_.get(), generic, &length);
  made.address_.assign(address.sun_path, length - offsetof(sockaddr_un, sun_path));
  made.address_[0] = '@';

  sigset_t mask;
  ::sigemptyset(&mask);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGUSR2, SIGHUP}) ::sigaddset(&mask, signal);
  ::sigprocmask(SIG_BLOCK, &mask, &made.old_mask_);
  made.signals_.reset(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!made.signals_) return fail(errno, "cannot watch signals");
  return made;
}

Status Supervisor::start_daemon() {
  ready_ = false;
  daemon_ = ::fork();
  if (daemon_ < 0) return fail(errno, "cannot start the daemon");
  if (daemon_ == 0) become_daemon();
  return {};
}

/// The child: descriptors to where sd_listen_fds(3) looks for them, and off. Of all others none
/// survives the exec.
void Supervisor::become_daemon() {
  std::vector<std::string> names;
  std::vector<int> copies;
  const int clear = kFirstPassed + static_cast<int>(kept_.size());
  for (const auto& [name, fd] : kept_) {
    names.push_back(name);
    copies.push_back(::fcntl(fd.get(), F_DUPFD_CLOEXEC, clear));
  }
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (::dup2(copies[i], kFirstPassed + static_cast<int>(i)) < 0) std::_Exit(1);
  }
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", std::to_string(names.size()).c_str(), 1);
  ::setenv("LISTEN_FDNAMES", fmt::format("{}", fmt::join(names, ":")).c_str(), 1);
  ::setenv("NOTIFY_SOCKET", address_.c_str(), 1);
  ::setenv("FDSTORE", std::to_string(kMaxKept).c_str(), 1);
  ::sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
  std::vector<char*> arguments;
  arguments.reserve(arguments_.size() + 1);
  for (std::string& argument : arguments_) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  ::execv(program_.c_str(), arguments.data());
  log::error("cannot run {}: {}", program_, errno_name(errno));
  std::_Exit(1);
}

int Supervisor::attend() {
  for (;;) {
    std::array<pollfd, 2> watched{{{notices_.get(), POLLIN, 0}, {signals_.get(), POLLIN, 0}}};
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) std::abort();
    if ((watched[1].revents & POLLIN) != 0) on_signal();
    const auto ended = reap();
    // What it sent before it died counts.
    while (take_notice()) {
    }
    if (ended) return *ended;
  }
}

void Supervisor::on_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) continue;
    if (signal == SIGUSR2 || signal == SIGHUP) {
      if (ready_) ::kill(daemon_, signal);
    } else {
      stopping_ = true;
      if (ready_) ::kill(daemon_, SIGTERM);
    }
  }
}

std::optional<int> Supervisor::reap() {
  int status = 0;
  if (::waitpid(daemon_, &status, WNOHANG) != daemon_) return {};
  return status;
}

bool Supervisor::take_notice() {
  std::array<char, 1024> text{};
  iovec piece{text.data(), text.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(int))>
      control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t length = ::recvmsg(notices_.get(), &message, MSG_CMSG_CLOEXEC);
  if (length < 0) return false;
  UniqueFd fd;
  const pid_t sender = open_envelope(message, fd);
  if (sender != daemon_) return true;  // anybody may send here
  Notice notice = parse({text.data(), static_cast<std::size_t>(length)});
  if (notice.ready && !std::exchange(ready_, true) && stopping_) ::kill(daemon_, SIGTERM);
  if (notice.forget) kept_.erase(notice.name);
  if (notice.keep && fd && kept_.size() < kMaxKept) {
    kept_.insert_or_assign(std::move(notice.name), std::move(fd));
  }
  return true;
}

int Supervisor::run() {
  for (;;) {
    const auto born = std::chrono::steady_clock::now();
    if (Status started = start_daemon(); !started) {
      log::error("{}", describe(started.error()));
      return static_cast<int>(control::ExitCode::Generic);
    }
    const int status = attend();
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    const bool handed_over = code == control::kHandedOver;
    if (handed_over) continue;
    // With devices kept a death is none to stop at: the next one takes them apart.
    if (code == 0 || kept_.empty()) return code;
    log::warn("the daemon ended with {}; it is started again with {} descriptors", code,
              kept_.size());
    if (std::chrono::steady_clock::now() - born < kInfancy) std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

int supervise(const DaemonOptions& options) {
  auto supervisor = Supervisor::create(options);
  if (!supervisor) {
    log::error("{}", describe(supervisor.error()));
    return static_cast<int>(control::exit_code(supervisor.error().code));
  }
  return supervisor->run();
}

}  // namespace rnbd::client
