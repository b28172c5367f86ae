#include "squish/evaluate/reconstruction.h"

#include <gtest/gtest.h>

#include <cmath>

#include "squish/base/error.h"
#include "squish/base/isa.h"

namespace squish::evaluate {
namespace {

TEST(GaussianMatrix, HasTheMomentsAskedForAndDependsOnTheSeedAlone) {
  ThreadPool one(1), three(3);
  const Matrix a = gaussian_matrix(300, 200, 0.02, 5, one),
               b = gaussian_matrix(300, 200, 0.02, 5, three),
               c = gaussian_matrix(300, 200, 0.02, 6, one);
  double sum = 0, squares = 0, fourth = 0;
  bool same = true, other = false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = a.data()[i] / 0.02;
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    same = same && a.data()[i] == b.data()[i];
    other = other || a.data()[i] != c.data()[i];
  }
  const double n = static_cast<double>(a.size());
  EXPECT_TRUE(same);
  EXPECT_TRUE(other);
  EXPECT_NEAR(sum / n, 0, 4 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 4 * std::sqrt(2 / n));
  EXPECT_NEAR(fourth / n, 3, 4 * std::sqrt(96 / n));
}

TEST(MeasureMatrix, ReportsWhatTheMethodStoresAndHowFarItIsFromTheBound) {
  ThreadPool pool(2);
  const Matrix weights = gaussian_matrix(64, 64, 0.02, 1, pool);
  const auto spec = quant::Spec::parse("int4:sym=0,g=64");
  const MatrixResult result = measure_matrix(weights, true, spec, {.pool = pool});
  EXPECT_EQ(result.rows, 64u);
  EXPECT_EQ(result.cols, 64u);
  EXPECT_EQ(result.bpw, 5.0);
  EXPECT_EQ(result.bpw_nominal, 5.0);
  EXPECT_EQ(result.bits.indices, 4u * 64 * 64);
  EXPECT_EQ(result.bits.scales, 64u * 64);
  EXPECT_GT(result.snr_db, 20);
  EXPECT_LT(result.snr_db, 22);
  EXPECT_NEAR(*result.shannon_gap_db, 5 * 6.0206 - result.snr_db, 1e-4);
  EXPECT_GE(result.compress_ms.runs, 5);
  EXPECT_GE(result.decompress_ms.runs, 5);
  EXPECT_EQ(result.backend, backend_name());
  EXPECT_FALSE(measure_matrix(weights, false, spec, {.pool = pool}).shannon_gap_db);
}

}  // namespace
}  // namespace squish::evaluate
