#include "squish/evaluate/host.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "squish/base/isa.h"
#include "squish/evaluate/bandwidth.isa.h"

namespace squish::evaluate {
namespace {

TEST(Host, SaysWhatRuns) {
  const Host host = describe_host(ThreadPool(3));
  EXPECT_FALSE(host.cpu.empty());
  EXPECT_EQ(host.threads, 3);
  EXPECT_EQ(host.isa, to_string(active_isa()));
  EXPECT_EQ(host.isa_available.find("scalar"), 0u);
  EXPECT_NE(host.isa_available.find(host.isa), std::string::npos);
}

TEST(Bandwidth, TheLoopReadsEveryElementOnEveryInstructionSet) {
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (const std::size_t n : {0u, 1u, 63u, 64u, 200u}) {
      const std::vector<float> ones(n, 1.0f);
      EXPECT_EQ(bandwidth_ops().sum(ones.data(), n), static_cast<float>(n)) << to_string(isa);
    }
  }
  set_isa(before);
}

}  // namespace
}  // namespace squish::evaluate
