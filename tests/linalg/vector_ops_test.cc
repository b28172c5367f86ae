#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::linalg {
namespace {

/// Every test runs once for each instruction set of this CPU.
class VectorOpsTest : public testing::TestWithParam<Isa> {
 protected:
  VectorOpsTest() { set_isa(GetParam()); }
  ~VectorOpsTest() override { set_isa(before_); }
  const VectorOps& ops() const { return vector_ops(); }

 private:
  Isa before_ = active_isa();
};
INSTANTIATE_TEST_SUITE_P(Isas, VectorOpsTest, testing::ValuesIn(available_isas()),
                         [](const auto& variant) { return std::string(to_string(variant.param)); });

std::vector<float> random_vector(std::size_t n, std::uint64_t seed) {
  const CounterRng rng(seed, "vector_ops_test");
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(rng.normal(i));
  return x;
}

const std::vector<std::size_t> kLengths = {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64, 67, 576, 1025};

TEST_P(VectorOpsTest, Dot) {
  for (const std::size_t n : kLengths) {
    const auto a = random_vector(n, 1), b = random_vector(n, 2);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
    EXPECT_NEAR(ops().dot(a.data(), b.data(), n), sum, 2e-6 * std::sqrt(n)) << n;
  }
  EXPECT_EQ(ops().dot(nullptr, nullptr, 0), 0);
}

TEST_P(VectorOpsTest, Axpy) {
  for (const std::size_t n : kLengths) {
    const auto x = random_vector(n, 1), before = random_vector(n + 1, 2);
    auto y = before;
    ops().axpy(-1.5f, x.data(), n, y.data());
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(y[i], before[i] - 1.5 * x[i], 1e-6) << n;
    EXPECT_EQ(y[n], before[n]);
  }
}

TEST_P(VectorOpsTest, ProductsWithStridedRows) {
  for (const std::size_t rows : {1, 3, 4, 5, 8, 11}) {
    for (const std::size_t cols : kLengths) {
      const std::size_t stride = cols + 5;
      const auto w = random_vector(rows * stride, 1), x = random_vector(cols, 2);
      std::vector<float> y(rows + 1, 7);
      ops().matvec(w.data(), rows, cols, stride, x.data(), y.data());
      for (std::size_t i = 0; i < rows; ++i) {
        double sum = 0;
        for (std::size_t j = 0; j < cols; ++j) sum += static_cast<double>(w[i * stride + j]) * x[j];
        EXPECT_NEAR(y[i], sum, 2e-6 * std::sqrt(cols));
      }
      EXPECT_EQ(y[rows], 7);
    }
  }
}

TEST_P(VectorOpsTest, Max) {
  for (const std::size_t n : kLengths) {
    for (const std::size_t at : {std::size_t{0}, n / 2, n - 1}) {
      std::vector<float> x(n, -5);
      x[at] = -2;
      EXPECT_EQ(ops().max(x.data(), n), -2) << n << ' ' << at;
    }
  }
}

TEST_P(VectorOpsTest, ExpIsAccurateOverItsWholeRange) {
  std::vector<float> x, e;
  for (float v = -86.9f; v < 88; v += 0.0137f) x.push_back(v);
  e.resize(x.size());
  double expected_sum = 0;
  ops().exp_sum(x.data(), x.size(), 1, 0, e.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    ASSERT_NEAR(e[i] / exact, 1, 3.6e-7) << x[i];
  }
  // The sum, with scale and shift, in place.
  for (float& v : x) v *= 0.1f;
  for (const float v : x) expected_sum += std::exp(0.5 * v - 3);
  EXPECT_NEAR(ops().exp_sum(x.data(), x.size(), 0.5f, 3, x.data()) / expected_sum, 1, 1e-6);
  EXPECT_NEAR(x[0], std::exp(0.5 * -8.69 - 3), 1e-7);
}

TEST_P(VectorOpsTest, ExpSaturates) {
  const std::vector<float> x = {-1e30f, -200, 0, 200, 1e30f};
  std::vector<float> e(x.size());
  ops().exp_sum(x.data(), x.size(), 1, 0, e.data());
  EXPECT_LT(e[0], 2e-38f);
  EXPECT_LT(e[1], 2e-38f);
  EXPECT_EQ(e[2], 1);
  EXPECT_GT(e[3], 1e38f);
  EXPECT_TRUE(std::isfinite(e[3]) && std::isfinite(e[4]));
}

TEST_P(VectorOpsTest, RmsNorm) {
  for (const std::size_t n : kLengths) {
    auto x = random_vector(n, 1);
    const auto weight = random_vector(n, 2), before = x;
    double square = 0;
    for (const float v : x) square += static_cast<double>(v) * v;
    const double scale = 1 / std::sqrt(square / static_cast<double>(n) + 1e-2);
    ops().rms_norm(x.data(), weight.data(), n, 1e-2f, x.data());
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(x[i], before[i] * scale * weight[i], 3e-6);
  }
}

TEST_P(VectorOpsTest, SiluMul) {
  for (const std::size_t n : kLengths) {
    auto gate = random_vector(n, 1);
    for (float& v : gate) v *= 20;
    const auto up = random_vector(n, 2), before = gate;
    ops().silu_mul(gate.data(), up.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      const double x = before[i], expected = x / (1 + std::exp(-x)) * up[i];
      EXPECT_NEAR(gate[i], expected, 1e-6 * (std::abs(expected) + 1));
    }
  }
}

TEST_P(VectorOpsTest, Rotate) {
  for (const std::size_t n : kLengths) {
    auto x = random_vector(2 * n, 1);
    const auto before = x;
    std::vector<float> cos(n), sin(n);
    for (std::size_t i = 0; i < n; ++i) {
      cos[i] = static_cast<float>(std::cos(0.1 * static_cast<double>(i)));
      sin[i] = static_cast<float>(std::sin(0.1 * static_cast<double>(i)));
    }
    ops().rotate(x.data(), cos.data(), sin.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(x[i], before[i] * cos[i] - before[i + n] * sin[i], 1e-6);
      EXPECT_NEAR(x[i + n], before[i + n] * cos[i] + before[i] * sin[i], 1e-6);
    }
  }
}

}  // namespace
}  // namespace squish::linalg
