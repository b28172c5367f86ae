#include "squish/linalg/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "squish/base/random.h"

namespace squish::linalg {
namespace {

Matrix random_matrix(std::size_t rows, std::size_t cols, std::uint64_t seed) {
  const CounterRng rng(seed, "gemm_test");
  Matrix m(rows, cols);
  for (std::size_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(rng.normal(i));
  return m;
}

double dot(ConstMatrixView a, std::size_t i, ConstMatrixView b, std::size_t j) {
  double sum = 0;
  for (std::size_t k = 0; k < a.cols; ++k) sum += static_cast<double>(a(i, k)) * b(j, k);
  return sum;
}

struct Shape {
  std::size_t m, n, k;
};
// The last two span several blocks with ragged edges.
const std::vector<Shape> kShapes = {
    {1, 1, 1}, {3, 5, 7}, {2, 400, 64}, {300, 3, 9}, {513, 769, 33}};

TEST(Gemm, TransposedAgreesWithSums) {
  ThreadPool pool(2);
  for (const auto [m, n, k] : kShapes) {
    const Matrix a = random_matrix(m, k, 1), b = random_matrix(n, k, 2);
    Matrix c(m, n);
    gemm_nt(a, b, c, pool);
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        ASSERT_NEAR(c(i, j), dot(a, i, b, j), 1e-5 * static_cast<double>(k)) << m << ' ' << i;
      }
    }
  }
}

TEST(Gemm, PlainAgreesWithSums) {
  const Matrix a = random_matrix(17, 40, 1), b = random_matrix(40, 23, 2);
  Matrix c(17, 23);
  gemm_nn(a, b, c);
  for (std::size_t i = 0; i < 17; ++i) {
    for (std::size_t j = 0; j < 23; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < 40; ++k) sum += static_cast<double>(a(i, k)) * b(k, j);
      ASSERT_NEAR(c(i, j), sum, 1e-4);
    }
  }
}

TEST(Gemm, ReadsAndWritesNothingBeyondStridedWindows) {
  const Matrix a = random_matrix(6, 30, 1), b = random_matrix(5, 40, 2);
  Matrix c = random_matrix(6, 20, 3);
  const Matrix before = c;
  const ConstMatrixView left(a.data() + 3, 6, 8, 30), right(b.data() + 11, 5, 8, 40);
  gemm_nt(left, right, MatrixView(c.data() + 7, 6, 5, 20));
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < 20; ++j) {
      const bool inside = j >= 7 && j < 12;
      const double expected = inside ? dot(left, i, right, j - 7) : before(i, j);
      EXPECT_NEAR(c(i, j), expected, inside ? 1e-5 : 0.0) << i << ' ' << j;
    }
  }
}

TEST(Gemm, SameBitsForEveryNumberOfThreads) {
  const Matrix a = random_matrix(530, 96, 1), b = random_matrix(800, 96, 2);
  std::vector<float> first;
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    Matrix c(530, 800);
    gemm_nt(a, b, c, pool);
    const std::vector<float> bits(c.data(), c.data() + c.size());
    if (first.empty()) first = bits;
    EXPECT_EQ(bits, first) << threads;
  }
}

TEST(Gemm, EmptyProductsAreZeroOrNothing) {
  ThreadPool pool(2);
  Matrix none(0, 3), c(2, 2);
  gemm_nt(none, Matrix(4, 3), Matrix(0, 4), pool);
  c(1, 1) = 5;
  gemm_nt(Matrix(2, 0), Matrix(2, 0), c, pool);
  EXPECT_EQ(c(1, 1), 0);
}

TEST(Blas, AKernelFromBeforeTheCpuIsReplacedAndNoOther) {
  EXPECT_EQ(better_blas_kernel("Prescott", Isa::avx512vbmi), "SkylakeX");
  EXPECT_EQ(better_blas_kernel("Prescott", Isa::avx2), "Haswell");
  EXPECT_EQ(better_blas_kernel("Prescott", Isa::scalar), "");
  EXPECT_EQ(better_blas_kernel("Zen", Isa::avx512), "");
  EXPECT_EQ(better_blas_kernel(blas_kernel(), Isa::scalar), "");
}

}  // namespace
}  // namespace squish::linalg
