#include "squish/linalg/solve.h"

#include <gtest/gtest.h>

#include <vector>

#include "squish/base/random.h"

namespace squish::linalg {
namespace {

SquareMatrix positive(std::size_t n) {
  const CounterRng random(5, "solve");
  SquareMatrix h(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i; j < n; ++j) {
      h(i, j) = h(j, i) = 0.1 * random.normal(i * n + j) + (i == j ? static_cast<double>(n) : 0);
    }
  }
  return h;
}

TEST(Solve, TheResultTimesHIsWhatWasGiven) {
  for (const std::size_t n : {1u, 7u, 65u, 130u}) {
    for (const std::size_t rows : {1u, 64u, 131u}) {
      ThreadPool pool(2), one(1);
      const SquareMatrix h = positive(n);
      const CounterRng random(6, "right");
      std::vector<double> b(rows * n);
      for (std::size_t i = 0; i < b.size(); ++i) b[i] = random.normal(i);
      std::vector<double> x = b, again = b;
      SquareMatrix factor = h, same = h;
      ASSERT_TRUE(solve_right(factor, x, {}, pool));
      ASSERT_TRUE(solve_right(same, again, {}, one));
      EXPECT_EQ(x, again);
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < n; ++j) {
          double product = 0;
          for (std::size_t k = 0; k < n; ++k) product += x[i * n + k] * h(k, j);
          ASSERT_NEAR(product, b[i * n + j], 1e-10);
        }
      }
    }
  }
}

TEST(Solve, RefusesWhatIsNotPositiveDefinite) {
  ThreadPool pool(1);
  SquareMatrix h = positive(5);
  h(3, 3) = -1;
  std::vector<double> b(5, 1.0);
  EXPECT_FALSE(solve_right(h, b, {}, pool));
  EXPECT_EQ(b, std::vector<double>(5, 1.0));
  SquareMatrix nan = positive(5);
  nan(0, 0) = 0.0 / 0.0;
  EXPECT_FALSE(solve_right(nan, b, {}, pool));
}

}  // namespace
}  // namespace squish::linalg
