#include "squish/base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace squish {
namespace {

TEST(Half, EveryF16RoundTrips) {
  for (unsigned h = 0; h < 65536; ++h) {
    const float value = from_f16(static_cast<std::uint16_t>(h));
    if (std::isnan(value)) continue;
    EXPECT_EQ(to_f16(value), h);
  }
}

TEST(Half, RoundsToNearestEvenAndSaturatesToInfinity) {
  EXPECT_EQ(to_f16(1.0f + 0x1p-11f), 0x3c00);  // a tie goes to the even neighbour
  EXPECT_EQ(to_f16(1.0f + 0x3p-11f), 0x3c02);
  EXPECT_EQ(to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(to_f16(0x1p-24f), 1);
  EXPECT_EQ(to_f16(0x1p-25f), 0);
  EXPECT_TRUE(std::isnan(from_f16(to_f16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Half, EveryBf16RoundTrips) {
  for (unsigned b = 0; b < 65536; ++b) {
    const float value = from_bf16(static_cast<std::uint16_t>(b));
    if (std::isnan(value)) continue;
    EXPECT_EQ(to_bf16(value), b);
  }
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(to_bf16(1.0f + 0x3p-8f), 0x3f82);
}

}  // namespace
}  // namespace squish
