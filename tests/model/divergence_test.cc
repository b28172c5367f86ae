#include "squish/model/divergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "squish/model/divergence.isa.h"

namespace squish::model {
namespace {

TEST(Divergence, IsThatOfTheTwoDistributions) {
  const std::vector<float> wanted = {0, std::log(3.0f), 5 - 5}, own = {2, 2, 2};  // .2 .6 .2
  std::vector<float> scaled(3), scratch(3);
  const Distribution p = distribution(wanted, scaled), q = distribution(own, scratch);
  EXPECT_EQ(p.likeliest, 1u);
  EXPECT_EQ(q.likeliest, 0u);  // the first of equals
  EXPECT_NEAR(p.log_sum, std::log(5.0), 1e-6);
  EXPECT_NEAR(divergence(wanted, scaled, p, own, q),
              0.4 * std::log(0.2 * 3) + 0.6 * std::log(0.6 * 3), 1e-6);
  EXPECT_EQ(divergence(wanted, scaled, p, wanted, p), 0);
  const std::vector<float> broken = {0, std::numeric_limits<float>::infinity(), 1};
  EXPECT_FALSE(distribution(broken, scratch).finite);
}

TEST(DivergenceOps, MatchPlainLoopsOnEveryInstructionSet) {
  const Isa before = active_isa();
  const CounterRng random(3, "ops");
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (const std::size_t n : {1u, 7u, 8u, 33u, 1000u}) {
      std::vector<float> p(n), a(n), b(n);
      double wanted = 0;
      for (std::size_t i = 0; i < n; ++i) {
        p[i] = static_cast<float>(random.uniform(3 * i));
        a[i] = static_cast<float>(5 * random.normal(3 * i + 1));
        b[i] = static_cast<float>(5 * random.normal(3 * i + 2));
        wanted += p[i] * ((double{a[i]} - 2) - (double{b[i]} + 1));
      }
      EXPECT_NEAR(divergence_ops().weighted_difference(p.data(), a.data(), 2, b.data(), -1, n),
                  wanted, 1e-9 * static_cast<double>(n));
      EXPECT_TRUE(divergence_ops().finite(a.data(), n)) << to_string(isa);
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        a[n / 2] = bad;
        EXPECT_FALSE(divergence_ops().finite(a.data(), n)) << to_string(isa);
      }
    }
  }
  set_isa(before);
}

}  // namespace
}  // namespace squish::model
