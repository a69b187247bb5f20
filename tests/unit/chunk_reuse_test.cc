// SPDX-License-Identifier: Apache-2.0
// A chunk is its client's again as soon as the answer is there, even if the worker that sent it is
// still about to.
#include <gtest/gtest.h>

#include "sim/memory_fabric.h"
#include "unit/hostile_client.h"

namespace rnbd::server::test {
namespace {

class ChunkReuse : public testing::TestWithParam<bool> {};

TEST_P(ChunkReuse, OnAnotherConnectionBeforeTheAnswersFlushIsThrough) {
  sim::MemoryFabric network({.seed = 0});
  DiskBench bench(network, GetParam());
  ASSERT_TRUE(bench.good.bring_up("good-disk"));
  RawClient client(network.host("client"), network.host("server").address(),
                   [&](const auto& condition) { return bench.until(condition); });
  bench.pollers.push_back([&] { return client.poll(); });
  ASSERT_TRUE(client.bring_up());
  ASSERT_EQ(client.ask(client.read_request(join(open_message("disk")), sizeof(wire::OpenResponse))),
            0);

  RawRequest request =
      RawClient::write_request(join(io(wire::Operation::Write, 0, kBlock)), filled(kBlock, 0x11));
  bool again = false;
  network.host("server").device().after_post = [&] {
    network.run_until_idle();
    client.poll();
    if (again || !client.answers.contains(0)) return;
    again = true;
    request.cid = 2;
    client.post(request);
    network.run_until_idle();
    for (sim::ManualContext& worker : bench.server.workers) {
      if (!worker.is_running()) worker.run_once();
    }
  };
  client.post(request);
  ASSERT_TRUE(bench.until([&] { return again || client.over(); }));
  EXPECT_EQ(client.outcome_of(0), 0);
  bench.settle();
  EXPECT_FALSE(client.over());
  EXPECT_EQ(bench.server.disks.operations, 2U);

  network.host("server").device().after_post = nullptr;
  client.close();
  bench.end();
}

INSTANTIATE_TEST_SUITE_P(Keys, ChunkReuse, testing::Bool(),
                         [](const auto& keys) { return keys.param ? "NewKeys" : "OneKey"; });

}  // namespace
}  // namespace rnbd::server::test
