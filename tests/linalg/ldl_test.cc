#include "squish/linalg/ldl.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "squish/base/random.h"

namespace squish::linalg {
namespace {

/// A A' for a random A with n + 3 columns.
SquareMatrix random_positive(std::size_t n) {
  const CounterRng rng(1, "ldl");
  SquareMatrix h(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t k = 0; k < n + 3; ++k) {
        h(i, j) += rng.normal(i * (n + 3) + k) * rng.normal(j * (n + 3) + k);
      }
    }
  }
  return h;
}

TEST(BlockLdl, MultipliesBackToTheMatrix) {
  ThreadPool pool(2);
  for (const auto& [n, block] : std::vector<std::pair<std::size_t, std::size_t>>{
           {1, 1}, {1, 8}, {7, 1}, {40, 8}, {37, 8}, {33, 16}, {20, 64}, {65, 5}}) {
    const SquareMatrix h = random_positive(n);
    SquareMatrix factors = h;
    ASSERT_TRUE(block_ldl(factors, block, pool));
    const auto lower = [&](std::size_t i, std::size_t j) {
      return i / block == j / block ? (i == j ? 1.0 : 0.0) : i > j ? factors(i, j) : 0.0;
    };
    const auto pivot = [&](std::size_t i, std::size_t j) {
      return i / block == j / block ? factors(i, j) : 0.0;
    };
    SquareMatrix ld(n);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t k = 0; k < n; ++k) ld(i, j) += lower(i, k) * pivot(k, j);
        if (j / block > i / block) {
          EXPECT_EQ(factors(i, j), 0);
        }
        EXPECT_DOUBLE_EQ(pivot(i, j), pivot(j, i));
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::size_t k = 0; k < n; ++k) sum += ld(i, k) * lower(j, k);
        EXPECT_NEAR(sum, h(i, j), 1e-10 * static_cast<double>(n)) << n << ", block " << block;
      }
    }
  }
}

TEST(BlockLdl, RefusesWhatIsNotPositiveDefinite) {
  ThreadPool pool(1);
  SquareMatrix singular(3);
  EXPECT_FALSE(block_ldl(singular, 1, pool));
  SquareMatrix indefinite = random_positive(20);
  indefinite(17, 17) = -1;
  EXPECT_FALSE(block_ldl(indefinite, 8, pool));
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    SquareMatrix broken = random_positive(20);
    broken(5, 5) = bad;
    EXPECT_FALSE(block_ldl(broken, 1, pool));
  }
}

TEST(Cholesky, OfALargeMatrixIsItsFactorAndTheSameForAnyNumberOfThreads) {
  constexpr std::size_t kSize = 2700;  // in tiles, the last one smaller
  SquareMatrix h(kSize);
  for (std::size_t i = 0; i < kSize; ++i) {
    for (std::size_t j = 0; j <= i; ++j) h(i, j) = std::pow(0.99, static_cast<double>(i - j));
  }
  ThreadPool one(1), three(3);
  SquareMatrix factor = h, same = h;
  ASSERT_TRUE(cholesky(factor, one));
  ASSERT_TRUE(cholesky(same, three));
  // That of x_i = 0.99 x_(i-1) + noise: its covariance is h.
  const double noise = std::sqrt(1 - 0.99 * 0.99);
  for (std::size_t i = 0; i < kSize; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      ASSERT_EQ(factor(i, j), same(i, j));
      ASSERT_NEAR(factor(i, j), h(i, j) * (j == 0 ? 1 : noise), 1e-11) << i << " " << j;
    }
  }
  h(2600, 2600) = 0.5;
  EXPECT_FALSE(cholesky(h, three));
}

TEST(TraceOfForm, IsTheSumOfTheRowsForms) {
  const SquareMatrix whole = random_positive(30);
  SymmetricMatrix h(30);
  for (std::size_t i = 0; i < 30; ++i) {
    for (std::size_t j = 0; j < 30; ++j) h.at(i, j) = whole(i, j);
  }
  Matrix a(150, 30);
  const CounterRng rng(2, "rows");
  for (std::size_t i = 0; i < a.size(); ++i) a.data()[i] = static_cast<float>(rng.normal(i));
  double expected = 0;
  for (std::size_t r = 0; r < a.rows(); ++r) {
    for (std::size_t i = 0; i < 30; ++i) {
      for (std::size_t j = 0; j < 30; ++j) expected += double{a(r, i)} * h(i, j) * a(r, j);
    }
  }
  ThreadPool one(1), three(3);
  EXPECT_NEAR(trace_of_form(a, h, one) / expected, 1, 1e-12);
  EXPECT_EQ(trace_of_form(a, h, one), trace_of_form(a, h, three));
}

}  // namespace
}  // namespace squish::linalg
