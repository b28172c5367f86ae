#include "squish/kernels/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/base/isa.h"
#include "squish/base/random.h"
#include "squish/kernels/half.isa.h"

namespace squish::kernels {
namespace {

/// Bytes of a matrix, at an odd address and not one more than there are.
struct Stored {
  Element element;
  std::size_t rows, cols;
  std::shared_ptr<std::vector<std::byte>> bytes = std::make_shared<std::vector<std::byte>>(1);
  std::vector<float> values{};

  void add(float value) {
    const auto append = [&](auto v) {
      const auto* const p = reinterpret_cast<const std::byte*>(&v);
      bytes->insert(bytes->end(), p, p + sizeof(v));
    };
    if (element == Element::f32) {
      append(value);
    } else if (element == Element::f16) {
      append(to_f16(value));
      value = from_f16(to_f16(value));
    } else {
      append(to_bf16(value));
      value = from_bf16(to_bf16(value));
    }
    values.push_back(value);
  }

  std::vector<float> product(std::span<const float> x, int threads) const {
    const auto kernel = half_kernel(bytes, std::span(*bytes).subspan(1), rows, cols, element);
    std::vector<float> y(rows, std::nanf(""));
    ThreadPool pool(threads);
    const Product one{kernel.get(), y};
    multiply({&one, 1}, x, pool);
    return y;
  }
};

std::vector<float> normals(std::size_t n, const char* use) {
  const CounterRng rng(3, use);
  std::vector<float> v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = static_cast<float>(rng.normal(i));
  return v;
}

class HalfKernels : public testing::TestWithParam<Element> {};

TEST_P(HalfKernels, MultiplyOnAllInstructionSetsAndNumbersOfThreads) {
  const Isa before = active_isa();
  for (const std::size_t cols : {1, 7, 16, 100, 130, 576, 1001}) {
    for (const std::size_t rows : {1, 6, 200}) {
      Stored matrix{GetParam(), rows, cols};
      for (const float w : normals(rows * cols, "weights")) matrix.add(w);
      matrix.bytes->shrink_to_fit();
      const std::vector<float> x = normals(cols, "input");
      for (const Isa isa : available_isas()) {
        set_isa(isa);
        const std::vector<float> y = matrix.product(x, 1);
        EXPECT_EQ(matrix.product(x, 3), y);
        for (std::size_t i = 0; i < rows; ++i) {
          double expected = 0, size = 0;
          for (std::size_t j = 0; j < cols; ++j) {
            const double term = double{matrix.values[i * cols + j]} * x[j];
            expected += term;
            size += std::abs(term);
          }
          ASSERT_NEAR(y[i], expected, 1e-6 * size) << rows << " x " << cols << to_string(isa);
        }
      }
    }
  }
  set_isa(before);
}

TEST_P(HalfKernels, KeepTinyAndInfiniteWeights) {
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    const float infinity = HUGE_VALF;
    for (const float w : {0x1p-24f, -0x1.ffp-15f, 0x1p-14f, 65504.0f, infinity, -infinity}) {
      Stored matrix{GetParam(), 1, 20};
      for (int j = 0; j < 20; ++j) matrix.add(j == 3 ? w : 0);
      std::vector<float> x(20);
      x[3] = 1;
      EXPECT_EQ(matrix.product(x, 1)[0], matrix.values[3]) << to_string(isa);
    }
    Stored matrix{GetParam(), 1, 1};
    matrix.add(std::nanf(""));
    EXPECT_TRUE(std::isnan(matrix.product(std::vector<float>{1}, 1)[0])) << to_string(isa);
  }
  set_isa(before);
}

TEST_P(HalfKernels, CombineRows) {
  if (GetParam() == Element::bf16) GTEST_SKIP() << "no keys and values are kept so";
  const Isa before = active_isa();
  for (const std::size_t cols : {1, 7, 16, 64, 100, 130}) {
    for (const std::size_t rows : {1, 6, 64}) {
      Stored matrix{GetParam(), rows, cols};
      for (const float w : normals(rows * cols, "weights")) matrix.add(w);
      const std::vector<float> weights = normals(rows, "input");
      for (const Isa isa : available_isas()) {
        set_isa(isa);
        const HalfOps& ops = half_ops();
        std::vector<float> y(cols + 1, 7);
        (GetParam() == Element::f32 ? ops.combine_f32 : ops.combine_f16)(
            matrix.bytes->data() + 1, rows, cols, weights.data(), y.data());
        for (std::size_t j = 0; j < cols; ++j) {
          double expected = 0;
          for (std::size_t i = 0; i < rows; ++i) {
            expected += double{matrix.values[i * cols + j]} * weights[i];
          }
          ASSERT_NEAR(y[j], expected, 1e-5) << rows << " x " << cols << to_string(isa);
        }
        EXPECT_EQ(y[cols], 7);
      }
    }
  }
  set_isa(before);
}

TEST(HalfOps, NarrowToNearestAndWiden) {
  std::vector<float> x = normals(37, "input");
  x.insert(x.end(), {0, -0.0f, 0x1p-25f, 0x1.8p-24f, 65504, 65519, 65520, 1e9f, -1e-9f});
  const Isa before = active_isa();
  for (const Isa isa : available_isas()) {
    set_isa(isa);
    for (std::size_t n = 0; n <= x.size(); ++n) {
      std::vector<std::uint16_t> halves(n + 1, 7);
      std::vector<float> back(n + 1, 7);
      half_ops().narrow(x.data(), n, halves.data());
      half_ops().widen_f16(reinterpret_cast<const std::byte*>(halves.data()), n, back.data());
      for (std::size_t i = 0; i < n; ++i) {
        ASSERT_EQ(halves[i], to_f16(x[i])) << x[i] << to_string(isa);
        ASSERT_EQ(back[i], from_f16(halves[i])) << x[i] << to_string(isa);
      }
      ASSERT_EQ(halves[n], 7);
      ASSERT_EQ(back[n], 7);
    }
  }
  set_isa(before);
}

TEST(ByteKernels, AreWhatTheirValuesAsFloatsAre) {
  const Isa before = active_isa();
  for (const std::size_t cols : {1, 7, 16, 64, 100, 130}) {
    constexpr std::size_t kRowCount = 6;
    const std::vector<float> x = normals(cols, "input"), weights = normals(kRowCount, "weights");
    std::vector<float> padded = x;
    padded.resize(cols + 16);
    const std::vector<float> wanted = normals(kRowCount * cols, "values");
    for (const Isa isa : available_isas()) {
      set_isa(isa);
      const HalfOps& ops = half_ops();
      std::vector<std::int8_t> bytes(wanted.size());
      std::ranges::transform(wanted, bytes.begin(), [](float value) {
        return static_cast<std::int8_t>(std::nearbyint(20 * value));
      });
      const auto* const values = reinterpret_cast<const std::byte*>(bytes.data());
      std::vector<float> back(wanted.size()), products(kRowCount), sums(cols);
      ops.widen_i8(values, wanted.size(), back.data());
      ops.i8(values, cols, padded.data(), 0, kRowCount, products.data());
      ops.combine_i8(values, kRowCount, cols, weights.data(), sums.data());
      std::vector<double> expected_sums(cols);
      for (std::size_t i = 0; i < kRowCount; ++i) {
        double product = 0;
        for (std::size_t j = 0; j < cols; ++j) {
          const std::size_t at = i * cols + j;
          ASSERT_EQ(back[at], bytes[at]) << to_string(isa);
          product += double{back[at]} * x[j];
          expected_sums[j] += double{back[at]} * weights[i];
        }
        ASSERT_NEAR(products[i], product, 1e-3) << to_string(isa);
      }
      for (std::size_t j = 0; j < cols; ++j) ASSERT_NEAR(sums[j], expected_sums[j], 1e-3);
    }
  }
  set_isa(before);
}

INSTANTIATE_TEST_SUITE_P(Elements, HalfKernels,
                         testing::Values(Element::f32, Element::f16, Element::bf16));

TEST(HalfKernel, RefusesAnotherNumberOfBytes) {
  const std::vector<std::byte> bytes(13);
  EXPECT_THROW(half_kernel(nullptr, bytes, 2, 3, Element::bf16), Error);
}

}  // namespace
}  // namespace squish::kernels
