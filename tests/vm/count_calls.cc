// SPDX-License-Identifier: Apache-2.0
// Counts what each thread of a program calls that costs something: allocations, mutexes, system
// calls of the data path. Loaded with LD_PRELOAD; the counters are in the file COUNT_CALLS_FILE
// with the process id behind it, shared and alive while the program runs. guest/count_calls reads
// it; the layout is told there too.
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <string>
#include <unistd.h>

#include <liburing.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>

namespace {

enum Call : std::size_t { Allocate, Lock, Receive, Send, Read, Write, Enter, kCalls };

struct Slot {
  std::atomic<std::uint64_t> thread;  ///< 0: free
  std::array<std::atomic<std::uint64_t>, kCalls> counts;
};
constexpr std::size_t kSlots = 256;

std::atomic<Slot*> slots = nullptr;  // null until the file is there, and where there is none

// In the static TLS block: the first access must not allocate.
__attribute__((tls_model("initial-exec"))) thread_local Slot* mine = nullptr;

__attribute__((constructor)) void open_file() {
  const char* name = std::getenv("COUNT_CALLS_FILE");
  if (name == nullptr) return;
  const std::string file = std::string(name) + "." + std::to_string(::getpid());
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ::ftruncate(fd, kSlots * sizeof(Slot)) != 0) std::abort();
  void* memory = ::mmap(nullptr, kSlots * sizeof(Slot), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) std::abort();
  ::close(fd);
  slots = static_cast<Slot*>(memory);
}

void count(Call call) {
  Slot* const all = slots.load(std::memory_order_relaxed);
  if (all == nullptr) return;
  if (mine == nullptr) {
    const auto thread = static_cast<std::uint64_t>(::gettid());
    for (std::size_t i = 0; i < kSlots && mine == nullptr; ++i) {
      std::uint64_t nobody = 0;
      if (all[i].thread.compare_exchange_strong(nobody, thread)) mine = &all[i];
    }
    if (mine == nullptr) std::abort();
  }
  mine->counts[call].fetch_add(1, std::memory_order_relaxed);
}

/// The function that would be called without us.
template <class Function>
Function* next(const char* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) std::abort();
  return reinterpret_cast<Function*>(found);
}

}  // namespace

extern "C" {

// NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier): the C library's names
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  count(Allocate);
  return __libc_malloc(size);
}

void* calloc(std::size_t number, std::size_t size) {
  count(Allocate);
  return __libc_calloc(number, size);
}

void* realloc(void* old, std::size_t size) {
  count(Allocate);
  return __libc_realloc(old, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count(Allocate);
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  count(Allocate);
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
// NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier)

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto real = next<decltype(pthread_mutex_lock)>("pthread_mutex_lock");
  count(Lock);
  return real(mutex);
}

// The client moves one message a call.
int recvmmsg(int fd, mmsghdr* messages, unsigned number, int flags, timespec* timeout) {
  static const auto real = next<decltype(recvmmsg)>("recvmmsg");
  count(Receive);
  return real(fd, messages, number, flags, timeout);
}

int sendmmsg(int fd, mmsghdr* messages, unsigned number, int flags) {
  static const auto real = next<decltype(sendmmsg)>("sendmmsg");
  count(Send);
  return real(fd, messages, number, flags);
}

// Signals of completion channels, and mailboxes.
ssize_t read(int fd, void* data, std::size_t size) {
  static const auto real = next<decltype(read)>("read");
  count(Read);
  return real(fd, data, size);
}

// Doorbells of software RDMA, and mailboxes.
ssize_t write(int fd, const void* data, std::size_t size) {
  static const auto real = next<decltype(write)>("write");
  count(Write);
  return real(fd, data, size);
}

int io_uring_submit(io_uring* ring) {
  static const auto real = next<decltype(io_uring_submit)>("io_uring_submit");
  count(Enter);
  return real(ring);
}

int io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe** cqe, unsigned wait,
                                     __kernel_timespec* timeout, sigset_t* mask) {
  static const auto real =
      next<decltype(io_uring_submit_and_wait_timeout)>("io_uring_submit_and_wait_timeout");
  count(Enter);
  return real(ring, cqe, wait, timeout, mask);
}

int io_uring_submit_and_get_events(io_uring* ring) {
  static const auto real =
      next<decltype(io_uring_submit_and_get_events)>("io_uring_submit_and_get_events");
  count(Enter);
  return real(ring);
}

}  // extern "C"
