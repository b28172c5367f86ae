#include "squish/base/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace squish {
namespace {

TEST(CounterRng, IsAPureFunctionOfSeedKeyAndCounter) {
  const CounterRng a(7, "weights"), b(7, "weights"), other_key(7, "signs"),
      other_seed(8, "weights");
  EXPECT_EQ(a.bits(123), b.bits(123));
  EXPECT_NE(a.bits(123), a.bits(124));
  EXPECT_NE(a.bits(123), other_key.bits(123));
  EXPECT_NE(a.bits(123), other_seed.bits(123));
}

// Known answers of Random123 1.14 (tests/kat_vectors, philox4x32 10).
TEST(Philox, MatchesPublishedVectors) {
  using Block = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32(0, 0, 0), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32(~0ull, ~0ull, ~0ull),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32(0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(CounterRng, NormalHasTheRightMoments) {
  const CounterRng random(3, "moments");
  constexpr int kCount = 200000;
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = random.normal(i);
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.01);
  EXPECT_NEAR(squares / kCount, 1, 0.02);
  EXPECT_NEAR(fourth / kCount, 3, 0.1);
}

TEST(CounterRng, BelowCoversItsRange) {
  const CounterRng random(5, "below");
  int count[3] = {};
  for (int i = 0; i < 3000; ++i) ++count[random.below(i, 3)];
  for (const int c : count) EXPECT_NEAR(c, 1000, 120);
}

}  // namespace
}  // namespace squish
