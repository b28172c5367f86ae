#include "squish/quant/quantizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "squish/base/error.h"

namespace squish::quant {
namespace {

TEST(Snr, IsTheRatioOfSquaredNorms) {
  ThreadPool pool(2);
  Matrix a(2, 2), b(2, 2);
  a(0, 0) = 3;
  a(1, 1) = 4;
  b = a;
  EXPECT_EQ(snr_db(a, b, pool), INFINITY);
  b(0, 1) = 0.5;  // 25 / 0.25
  EXPECT_DOUBLE_EQ(snr_db(a, b, pool), 20);
  EXPECT_TRUE(std::isnan(snr_db(Matrix(3, 3), Matrix(3, 3), pool)));
  b(1, 0) = NAN;
  EXPECT_THROW(snr_db(a, b, pool), Error);
}

TEST(Snr, AccumulatesInDoublePrecision) {
  // A float sum of squares stops growing at 2^24.
  ThreadPool pool(2);
  Matrix ones(64, (1 << 20) / 2), zeros(64, (1 << 20) / 2);
  for (std::size_t i = 0; i < ones.size(); ++i) ones.data()[i] = 1;
  zeros = ones;
  zeros(63, 5) = 0;
  EXPECT_DOUBLE_EQ(snr_db(ones, zeros, pool), 10 * std::log10(static_cast<double>(ones.size())));
}

}  // namespace
}  // namespace squish::quant
