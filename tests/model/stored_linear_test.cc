#include "squish/model/stored_linear.h"

#include <gmock/gmock.h>

#include <cmath>
#include <vector>

#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/base/random.h"

namespace squish::model {
namespace {

/// 6 x 96 of random blocks whose scales and minima are small halves.
std::vector<std::byte> random_blocks(io::DType type) {
  const std::size_t size = io::block_size(type).bytes;
  const CounterRng rng(1, "blocks");
  std::vector<std::byte> bytes(6 * 3 * size);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(rng.bits(i));
  for (std::size_t block = 0; block < 6 * 3; ++block) {
    for (const std::size_t at : {0, 2}) {  // a symmetric block's second half is codes, any will do
      const std::uint16_t half =
          to_f16(static_cast<float>(0.01 + 0.1 * rng.uniform(1000 + 4 * block + at)));
      bytes[block * size + at] = static_cast<std::byte>(half & 255);
      bytes[block * size + at + 1] = static_cast<std::byte>(half >> 8);
    }
  }
  return bytes;
}

TEST(StoredAsPacked, HasTheValuesOfAffineBlocks) {
  ThreadPool pool(1);
  for (const auto type :
       {io::DType::Q4_0, io::DType::Q4_1, io::DType::Q5_0, io::DType::Q5_1, io::DType::Q8_0}) {
    for (const std::size_t head_rows : {0, 6}) {
      const std::vector<std::byte> bytes = random_blocks(type);
      io::Tensor tensor{"t", type, {6, 96}, bytes, head_rows};
      const auto packed = stored_as_packed(tensor);
      ASSERT_NE(packed, nullptr);
      EXPECT_EQ(packed->bits().total() / 8, bytes.size()) << to_string(type);
      const Matrix ours = quant::dequantize(*packed, pool), theirs = io::read_matrix(tensor, pool);
      for (std::size_t i = 0; i < ours.size(); ++i) {
        ASSERT_NEAR(ours.data()[i], theirs.data()[i], 1e-6) << to_string(type) << ", " << i;
      }
    }
  }
}

TEST(StoredAsPacked, IsNothingForOtherTypes) {
  const std::vector<std::byte> bytes(4 * 32 * 2);
  EXPECT_EQ(stored_as_packed({"t", io::DType::F16, {4, 32}, bytes, 0}), nullptr);
}

TEST(StoredWeights, MultipliesHalvesInTheModelsOrderOfRows) {
  const CounterRng rng(2, "halves");
  std::vector<std::byte> bytes(12 * 32 * 2);
  for (std::size_t i = 0; i < 12 * 32; ++i) {
    const std::uint16_t half = to_f16(static_cast<float>(rng.normal(i)));
    bytes[2 * i] = static_cast<std::byte>(half & 255);
    bytes[2 * i + 1] = static_cast<std::byte>(half >> 8);
  }
  const io::Tensor tensor{"t", io::DType::F16, {12, 32}, bytes, 6};
  const StoredWeights stored = stored_weights(tensor);
  ASSERT_NE(stored.kernel, nullptr);
  EXPECT_EQ(stored.bytes, bytes.size());
  ThreadPool pool(1);
  const Matrix w = io::read_matrix(tensor, pool);
  std::vector<float> x(32), y(12);
  for (std::size_t j = 0; j < 32; ++j) x[j] = static_cast<float>(rng.normal(1000 + j));
  const kernels::Product product{stored.kernel.get(), y};
  kernels::multiply({&product, 1}, x, pool);
  for (std::size_t i = 0; i < 12; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < 32; ++j) sum += double{w(i, j)} * x[j];
    EXPECT_NEAR(y[i], sum, 1e-4);
  }
  Matrix decoded(12, 32);
  stored.decode(decoded, pool);
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_EQ(decoded.data()[i], w.data()[i]);
  EXPECT_EQ(stored_weights({"t", io::DType::F32, {1, 2}, std::span(bytes).first(8), 0}).kernel,
            nullptr);
  bytes[2 * 40] = std::byte{0};
  bytes[2 * 40 + 1] = std::byte{0x7c};  // infinity
  EXPECT_THAT([&] { stored_weights(tensor); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("not finite at row")));
}

}  // namespace
}  // namespace squish::model
