// SPDX-License-Identifier: Apache-2.0
// The store over real disks: files on tmpfs and on a disk, direct and through the page cache, and,
// where one is given, a block device.
#include "server/uring_store.h"

#include <cerrno>
#include <deque>
#include <ostream>
#include <unistd.h>
#include <vector>

#include <sys/stat.h>
#include <sys/syscall.h>

#include "unit/store_bench.h"
#include "unit/test_disk.h"

namespace rnbd::server {
namespace {

using Kind = StoreOperation::Kind;
using test::Buffer;
using wire::IoMode;

constexpr std::uint64_t kDiskSize = 16 << 20;

StoreOperation transfer(Kind kind, std::uint64_t offset, const Buffer& buffer) {
  return {.kind = kind, .offset = offset, .length = buffer.size(), .data = buffer.data()};
}

StoreOperation change(Kind kind, std::uint64_t offset, std::uint32_t length) {
  return {.kind = kind, .offset = offset, .length = length};
}

/// Where the disk of a test is, and how it is used.
struct Place {
  const char* name;
  const char* directory;  ///< null: the block device
  IoMode io_mode;
  friend void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }
};

class StoreOnDisk : public testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    std::string path;
    if (GetParam().directory == nullptr) {
      RNBD_REQUIRE_BLOCK_DEVICE();
      path = *test::block_device();
    } else {
      directory_.emplace(GetParam().directory);
      path = directory_->make_file("disk", kDiskSize);
    }
    auto backend = Backend::open(test::find_disk(path), true, GetParam().io_mode);
    if (!backend && backend.error().code == EINVAL) GTEST_SKIP() << describe(backend.error());
    ASSERT_TRUE(backend) << describe(backend.error());
    backend_.emplace(std::move(*backend));
    block_ = backend_->limits().logical_block_size;
    target_ = backend_->target();
  }

  int write(std::uint64_t offset, const Buffer& buffer) {
    return bench_.execute(transfer(Kind::Write, offset, buffer), target_);
  }
  int read(std::uint64_t offset, const Buffer& buffer) {
    return bench_.execute(transfer(Kind::Read, offset, buffer), target_);
  }

  std::optional<test::TempDirectory> directory_;
  std::optional<Backend> backend_;
  StoreTarget target_;
  std::uint32_t block_ = 512;
  test::StoreBench bench_;
};

TEST_P(StoreOnDisk, ReadsBackWhatItWrote) {
  std::uint64_t offset = 0;
  for (const std::uint32_t blocks : {1U, 3U, 7U, 31U, 256U}) {
    const Buffer written(std::size_t{blocks} * block_);
    const Buffer found(written.size());
    written.fill_random(blocks);
    ASSERT_EQ(write(offset, written), 0) << blocks;
    ASSERT_EQ(read(offset, found), 0) << blocks;
    EXPECT_TRUE(found.equals(written)) << blocks;
    offset += written.size();
  }
}

TEST_P(StoreOnDisk, WritesTheLastBlock) {
  const std::uint64_t last = backend_->size_bytes() - block_;
  const Buffer written(block_);
  const Buffer found(block_);
  written.fill_random(1);
  EXPECT_EQ(write(last, written), 0);
  EXPECT_EQ(read(last, found), 0);
  EXPECT_TRUE(found.equals(written));
}

TEST_P(StoreOnDisk, MovesDataThroughRegisteredFilesAndBuffers) {
  const Buffer slab(1 << 20);
  slab.fill_random(3);
  StoreTarget target = target_;
  target.file_slot = bench_.run([&] { return bench_.store().register_file(target_.fd); });
  const int slot = bench_.run([&] { return bench_.store().register_buffer(slab.bytes()); });
  ASSERT_NE(target.file_slot, kNoSlot);
  ASSERT_NE(slot, kNoSlot);
  target.fd = -1;  // must not matter

  StoreOperation operation{.kind = Kind::Write,
                           .offset = 8192,
                           .length = 32768,
                           .data = slab.data() + 4096,
                           .buffer_slot = slot};
  EXPECT_EQ(bench_.execute(operation, target), 0);
  operation.kind = Kind::Read;
  operation.data = slab.data() + 131072;
  EXPECT_EQ(bench_.execute(operation, target), 0);
  EXPECT_TRUE(
      std::ranges::equal(slab.bytes().subspan(4096, 32768), slab.bytes().subspan(131072, 32768)));
  EXPECT_EQ(bench_.execute(change(Kind::Flush, 0, 0), target), 0);

  bench_.run([&] {
    bench_.store().unregister_buffer(slot);
    bench_.store().unregister_file(target.file_slot);
  });
  // The file is missing, and so is the buffer; which is seen first differs from kernel to kernel.
  const int error = bench_.execute(operation, target);
  EXPECT_TRUE(error == EBADF || error == EFAULT) << "the slots are empty now: " << error;
}

TEST_P(StoreOnDisk, FuaAndFlushSucceed) {
  const Buffer written(4096);
  const Buffer found(4096);
  written.fill_random(4);
  StoreOperation operation = transfer(Kind::Write, 4096, written);
  operation.fua = true;
  EXPECT_EQ(bench_.execute(operation, target_), 0);
  EXPECT_EQ(bench_.execute(change(Kind::Flush, 0, 0), target_), 0);
  EXPECT_EQ(read(4096, found), 0);
  EXPECT_TRUE(found.equals(written));
}

TEST_P(StoreOnDisk, WrittenZeroesAreReadAsZeroes) {
  if (backend_->limits().max_write_zeroes_sectors == 0) GTEST_SKIP() << "no write zeroes here";
  const Buffer data(65536);
  for (const bool fua : {false, true}) {
    data.fill_random(5);
    ASSERT_EQ(write(0, data), 0);
    StoreOperation operation = change(Kind::WriteZeroes, block_, 4 * block_);
    operation.fua = fua;
    EXPECT_EQ(bench_.execute(operation, target_), 0);

    const Buffer found(65536);
    ASSERT_EQ(read(0, found), 0);
    std::ranges::fill(data.bytes().subspan(block_, 4 * std::size_t{block_}), std::byte{0});
    EXPECT_TRUE(found.equals(data)) << "and around them nothing has changed";
  }
}

TEST_P(StoreOnDisk, DiscardGivesSpaceBack) {
  if (backend_->limits().max_discard_sectors == 0) GTEST_SKIP() << "no discards here";
  const Buffer data(1 << 20);
  data.fill_random(6);
  ASSERT_EQ(write(0, data), 0);
  ASSERT_EQ(bench_.execute(change(Kind::Flush, 0, 0), target_), 0);
  struct stat before{};
  struct stat after{};
  ASSERT_EQ(::fstat(target_.fd, &before), 0);
  ASSERT_EQ(bench_.execute(change(Kind::Discard, 0, 1 << 20), target_), 0);
  ASSERT_EQ(::fstat(target_.fd, &after), 0);

  ASSERT_EQ(write(2 << 20, data), 0) << "the disk still works";
  if (target_.is_block) return;
  EXPECT_GE(before.st_blocks - after.st_blocks, (1 << 20) / 512);
  EXPECT_EQ(after.st_size, before.st_size);
  const Buffer found(1 << 20);
  EXPECT_EQ(read(0, found), 0);
  EXPECT_TRUE(found.is_zero());
}

TEST_P(StoreOnDisk, DiscardsInAnyNumberEnd) {
  if (backend_->limits().max_discard_sectors == 0) GTEST_SKIP() << "no discards here";
  constexpr std::uint32_t kStep = 65536;
  std::deque<test::WaitingClient> clients(kDiskSize / kStep);
  bench_.run([&] {
    for (std::size_t i = 0; i < clients.size(); ++i) {
      bench_.store().submit(change(Kind::Discard, i * kStep, kStep), target_, clients[i]);
    }
  });
  for (auto& client : clients) ASSERT_EQ(client.wait(), 0);
}

TEST_P(StoreOnDisk, ReadingBehindTheEndIsAnError) {
  const Buffer buffer(4 * std::size_t{block_});
  EXPECT_EQ(read(backend_->size_bytes(), buffer), EIO);
  EXPECT_EQ(read(backend_->size_bytes() - block_, buffer), EIO) << "a part of it is there";
}

TEST_P(StoreOnDisk, DoesThousandsAtOnceEachOnce) {
  constexpr std::size_t kCount = 3000;
  static_assert(kCount > 2 * UringStore::kMaxInFlight);
  const Buffer written(kCount * block_);
  written.fill_random(7);
  std::deque<test::WaitingClient> clients(kCount);
  const auto submit_all = [&](Kind kind, const Buffer& buffer) {
    bench_.run([&] {
      for (std::size_t i = 0; i < kCount; ++i) {
        bench_.store().submit({.kind = kind,
                               .offset = i * block_,
                               .length = block_,
                               .data = buffer.data() + i * block_},
                              target_, clients[i]);
      }
      EXPECT_EQ(bench_.store().in_flight(), UringStore::kMaxInFlight);
      EXPECT_EQ(bench_.store().waiting(), kCount - UringStore::kMaxInFlight);
    });
    for (auto& client : clients) ASSERT_EQ(client.wait(), 0);
  };
  submit_all(Kind::Write, written);
  std::deque<test::WaitingClient>(kCount).swap(clients);
  const Buffer found(written.size());
  submit_all(Kind::Read, found);
  EXPECT_TRUE(found.equals(written));
}

INSTANTIATE_TEST_SUITE_P(Places, StoreOnDisk,
                         testing::Values(Place{"Tmpfs", "/dev/shm", IoMode::FileIo},
                                         Place{"FileDirect", "/var/tmp", IoMode::BlockIo},
                                         Place{"FileCached", "/var/tmp", IoMode::FileIo},
                                         Place{"DeviceDirect", nullptr, IoMode::BlockIo},
                                         Place{"DeviceCached", nullptr, IoMode::FileIo}),
                         [](const auto& place) { return std::string(place.param.name); });

/// What the page cache holds of a file and the disk does not, in pages; nothing where the kernel
/// cannot tell (before 6.5).
std::optional<std::uint64_t> dirty_pages(int fd) {
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  } range;
  struct Counts {
    std::uint64_t cached, dirty, writeback, evicted, recently_evicted;
  } counts{};
  constexpr long kCachestat = 451;
  if (::syscall(kCachestat, fd, &range, &counts, 0) != 0) return std::nullopt;
  return counts.dirty + counts.writeback;
}

class StoreDurability : public testing::Test {
 protected:
  void SetUp() override {
    if (!dirty_pages(backend_.target().fd)) GTEST_SKIP() << "the kernel has no cachestat()";
    const Buffer data(4096);
    lazy_.write_through = false;
    ASSERT_EQ(bench_.execute(transfer(Kind::Write, 0, data), lazy_), 0);
    if (dirty_pages(lazy_.fd) == 0) GTEST_SKIP() << "/var/tmp is on no disk";
    flush();
  }
  void flush() {
    ASSERT_EQ(bench_.execute(change(Kind::Flush, 0, 0), lazy_), 0);
    ASSERT_EQ(dirty_pages(lazy_.fd), 0U);
  }

  test::TempDirectory directory_;
  Backend backend_ = *Backend::open(test::find_disk(directory_.make_file("disk", kDiskSize)), true,
                                    IoMode::FileIo);
  StoreTarget strict_ = backend_.target();
  StoreTarget lazy_ = strict_;  ///< the same, as if it were not fileio
  test::StoreBench bench_;
};

TEST_F(StoreDurability, FileIoWritesReachTheDiskBeforeTheyAreAnswered) {
  const Buffer data(65536);
  EXPECT_EQ(bench_.execute(transfer(Kind::Write, 0, data), strict_), 0);
  EXPECT_EQ(dirty_pages(strict_.fd), 0U);
}

TEST_F(StoreDurability, FuaWritesReachTheDiskBeforeTheyAreAnswered) {
  const Buffer data(65536);
  StoreOperation operation = transfer(Kind::Write, 0, data);
  operation.fua = true;
  EXPECT_EQ(bench_.execute(operation, lazy_), 0);
  EXPECT_EQ(dirty_pages(lazy_.fd), 0U);
}

TEST_F(StoreDurability, FileIoZeroesReachTheDiskBeforeTheyAreAnswered) {
  // Half a page: the file system writes those zeroes into the page cache.
  EXPECT_EQ(bench_.execute(change(Kind::WriteZeroes, 512, 1024), lazy_), 0);
  if (dirty_pages(lazy_.fd) == 0) GTEST_SKIP() << "the file system writes zeroes at once";
  EXPECT_EQ(bench_.execute(change(Kind::WriteZeroes, 512, 1024), strict_), 0);
  EXPECT_EQ(dirty_pages(strict_.fd), 0U);
}

TEST(UringStore, CarriesOnAfterShortReads) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  const Buffer sent(12288);
  sent.fill_random(8);
  const Buffer found(sent.size());
  test::StoreBench bench;
  test::WaitingClient client;
  // Each piece is one read: the next is put in when the pipe has been emptied of the last.
  ASSERT_EQ(::write(in.get(), sent.data(), 1000), 1000);
  bench.run(
      [&] { bench.store().submit(transfer(Kind::Read, 0, found), {.fd = out.get()}, client); });
  ASSERT_EQ(::write(in.get(), sent.data() + 1000, 4000), 4000);
  ASSERT_EQ(::write(in.get(), sent.data() + 5000, sent.size() - 5000), sent.size() - 5000);
  EXPECT_EQ(client.wait(), 0);
  EXPECT_TRUE(found.equals(sent));
}

TEST(UringStore, CarriesOnAfterShortWrites) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  ASSERT_GE(::fcntl(in.get(), F_SETPIPE_SZ, 4096), 4096);
  const Buffer sent(65536);
  sent.fill_random(9);
  const Buffer found(sent.size());
  test::StoreBench bench;
  test::WaitingClient client;
  bench.run(
      [&] { bench.store().submit(transfer(Kind::Write, 0, sent), {.fd = in.get()}, client); });
  for (std::size_t done = 0; done < found.size();) {
    const ssize_t got = ::read(out.get(), found.data() + done, found.size() - done);
    ASSERT_GT(got, 0);
    done += static_cast<std::size_t>(got);
  }
  EXPECT_EQ(client.wait(), 0);
  EXPECT_TRUE(found.equals(sent));
}

TEST(UringStore, PassesTheKernelsErrorsOn) {
  test::StoreBench bench;
  const Buffer buffer(512);
  const UniqueFd full(::open("/dev/full", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(full);
  EXPECT_EQ(bench.execute(transfer(Kind::Write, 0, buffer), {.fd = full.get()}), ENOSPC);
  UniqueFd closed(::open("/dev/full", O_RDWR | O_CLOEXEC));
  const StoreTarget target{.fd = closed.get()};
  closed.reset();
  EXPECT_EQ(bench.execute(transfer(Kind::Read, 0, buffer), target), EBADF);
  EXPECT_EQ(bench.execute(change(Kind::Flush, 0, 0), target), EBADF);
  EXPECT_EQ(bench.execute(change(Kind::Discard, 0, 512), target), EBADF);
}

TEST(UringStore, RefusesToChangeWhatIsOpenForReading) {
  const test::TempDirectory directory;
  const UniqueFd fd(::open(directory.make_file("disk", 8192).c_str(), O_RDONLY | O_CLOEXEC));
  const StoreTarget target{.fd = fd.get()};
  const Buffer buffer(512);
  test::StoreBench bench;
  EXPECT_EQ(bench.execute(transfer(Kind::Write, 0, buffer), target), EBADF);
  EXPECT_EQ(bench.execute(change(Kind::Discard, 0, 4096), target), EBADF);
  EXPECT_EQ(bench.execute(change(Kind::WriteZeroes, 0, 4096), target), EBADF);
  EXPECT_EQ(bench.execute(transfer(Kind::Read, 0, buffer), target), 0);
}

TEST(UringStore, DiscardsOfBlockDevicesGoThroughTheThreadInAnyNumber) {
  const test::TempDirectory directory;
  const UniqueFd fd(::open(directory.make_file("disk", 8192).c_str(), O_RDWR | O_CLOEXEC));
  const StoreTarget pretended{.fd = fd.get(), .is_block = true};
  test::StoreBench bench;
  std::deque<test::WaitingClient> clients(2000);
  bench.run([&] {
    for (auto& client : clients) {
      bench.store().submit(change(Kind::Discard, 0, 4096), pretended, client);
    }
  });
  for (auto& client : clients) ASSERT_EQ(client.wait(), ENOTTY) << "BLKDISCARD on a file";
}

/// Submits itself again from inside its own completion.
class Repeater final : public StoreClient {
 public:
  Repeater(BlockStore& store, const StoreTarget& target, int times)
      : store_(store), target_(target), left_(times) {}

  void go() {
    inside_submit_ = true;
    store_.submit(operation_, target_, *this);
    inside_submit_ = false;
  }
  void on_store_done(int error) override {
    EXPECT_EQ(error, 0);
    EXPECT_FALSE(inside_submit_);
    if (--left_ > 0) return go();
    done_.set_value();
  }
  std::future<void> done() { return done_.get_future(); }

 private:
  BlockStore& store_;
  StoreTarget target_;
  StoreOperation operation_{.kind = Kind::Read, .length = 0};
  int left_;
  bool inside_submit_ = false;
  std::promise<void> done_;
};

TEST(UringStore, ClientsMaySubmitAgainFromTheirCompletion) {
  const test::TempDirectory directory;
  const UniqueFd fd(::open(directory.make_file("disk", 8192).c_str(), O_RDWR | O_CLOEXEC));
  test::StoreBench bench;
  Repeater repeater(bench.store(), {.fd = fd.get()}, 100'000);
  auto done = repeater.done();
  bench.run([&] { repeater.go(); });
  EXPECT_EQ(done.wait_for(test::kPatience), std::future_status::ready);
}

TEST(UringStore, ServesThoseWhoWaitedLongestFirst) {
  // One slot is left: those who wait must get it one after the other, in their order.
  const test::TempDirectory directory;
  const UniqueFd fd(::open(directory.make_file("disk", 8192).c_str(), O_RDWR | O_CLOEXEC));
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  const StoreTarget stuck{.fd = out.get()};
  const StoreTarget free{.fd = fd.get()};
  test::StoreBench bench;
  std::deque<test::WaitingClient> blocked(UringStore::kMaxInFlight - 1);
  std::vector<Buffer> bytes;
  for (std::size_t i = 0; i < blocked.size(); ++i) bytes.emplace_back(1);

  struct Ordered final : StoreClient {
    std::vector<int>* order = nullptr;
    std::promise<void>* last = nullptr;
    int number = 0;
    void on_store_done(int /*error*/) override {
      order->push_back(number);
      if (last != nullptr) last->set_value();
    }
  };
  std::vector<int> order;
  std::promise<void> last;
  std::deque<Ordered> waiting(50);
  bench.run([&] {
    for (std::size_t i = 0; i < blocked.size(); ++i) {
      bench.store().submit(transfer(Kind::Read, 0, bytes[i]), stuck, blocked[i]);
    }
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      waiting[i].order = &order;
      waiting[i].number = static_cast<int>(i);
      if (i + 1 == waiting.size()) waiting[i].last = &last;
      bench.store().submit({.kind = Kind::Read}, free, waiting[i]);
    }
  });
  ASSERT_EQ(last.get_future().wait_for(test::kPatience), std::future_status::ready);
  EXPECT_TRUE(std::ranges::is_sorted(order));
  EXPECT_EQ(order.size(), waiting.size());

  const std::vector<char> filling(blocked.size());
  ASSERT_EQ(::write(in.get(), filling.data(), filling.size()),
            static_cast<ssize_t>(filling.size()));
  for (auto& client : blocked) ASSERT_EQ(client.wait(), 0);
}

}  // namespace
}  // namespace rnbd::server
