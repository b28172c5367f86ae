#include "squish/linalg/outer_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "squish/base/isa.h"
#include "squish/base/random.h"

namespace squish::linalg {
namespace {

Matrix random_matrix(std::size_t rows, std::size_t cols) {
  Matrix matrix(rows, cols);
  const CounterRng random(7, "outer product");
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    matrix.data()[i] = 0.5f + static_cast<float>(random.normal(i));
  }
  return matrix;
}

TEST(OuterProduct, EqualsTheSlowSumForOddShapesAndAllInstructionSets) {
  ThreadPool pool(2);
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (const auto& [tokens, n] : {std::pair{1, 1}, {3, 130}, {513, 127}, {1100, 300}}) {
      const Matrix x = random_matrix(tokens, n);
      std::vector<double> triangle(triangle_size(n), 0.25), sums(n, 0.25);
      add_outer_products(x, triangle, pool);
      add_rows(x, sums, pool);
      const SymmetricMatrix whole(x.cols(), triangle, 2, nullptr);
      for (std::size_t i = 0; i < x.cols(); ++i) {
        double sum = 0.25;
        for (std::size_t t = 0; t < x.rows(); ++t) sum += x(t, i);
        EXPECT_EQ(sums[i], sum);
        for (std::size_t j = 0; j < x.cols(); j += i % 7 == 0 ? 1 : 29) {
          double expected = 0.25;
          for (std::size_t t = 0; t < x.rows(); ++t) expected += double{x(t, i)} * x(t, j);
          ASSERT_NEAR(whole(i, j), 2 * expected, 1e-4 * std::sqrt(double(tokens)))
              << to_string(isa) << " " << i << " " << j;
          ASSERT_EQ(whole(i, j), whole(j, i));
        }
      }
    }
  }
  set_isa(before);
}

TEST(OuterProduct, CrossProductsEqualTheSlowSum) {
  ThreadPool pool(2), one(1);
  for (const auto& [tokens, m, n] :
       {std::tuple{1, 1, 1}, {3, 40, 130}, {700, 140, 140}, {9, 257, 20}}) {
    const Matrix x = random_matrix(tokens, m), y = random_matrix(tokens + 1, n);
    const ConstMatrixView right = y.view().row_range(1, y.rows());
    std::vector<double> sums(x.cols() * y.cols(), 0.25), same = sums;
    add_cross_products(x, right, sums, pool);
    add_cross_products(x, right, same, one);
    EXPECT_EQ(sums, same);
    for (std::size_t i = 0; i < x.cols(); i += 3) {
      for (std::size_t j = 0; j < y.cols(); ++j) {
        double expected = 0.25;
        for (std::size_t t = 0; t < x.rows(); ++t) expected += double{x(t, i)} * right(t, j);
        ASSERT_NEAR(sums[i * y.cols() + j], expected, 1e-4 * std::sqrt(double(tokens)));
      }
    }
  }
}

TEST(OuterProduct, IsTheSameForAnyNumberOfThreads) {
  ThreadPool one(1), three(3);
  const Matrix x = random_matrix(700, 290);
  std::vector<double> a(triangle_size(290)), b = a, mean_a(290), mean_b(290);
  add_outer_products(x, a, one);
  add_outer_products(x, b, three);
  add_rows(x, mean_a, one);
  add_rows(x, mean_b, three);
  EXPECT_EQ(a, b);
  EXPECT_EQ(mean_a, mean_b);
}

TEST(OuterProduct, TellsWhatIsOutOfRangeOnAllInstructionSets) {
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (const float bad : {NAN, -INFINITY, INFINITY, 2.0f, std::nextafter(-1.0f, -2.0f)}) {
      for (const std::size_t at : {0, 16, 36}) {
        std::vector<float> x(37, -1.0f);
        EXPECT_TRUE(all_within(x, 1));
        x[at] = bad;
        EXPECT_FALSE(all_within(x, 1)) << bad << " at " << at;
      }
    }
  }
  set_isa(before);
}

}  // namespace
}  // namespace squish::linalg
