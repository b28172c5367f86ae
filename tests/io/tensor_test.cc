#include "squish/io/tensor.h"

#include <gmock/gmock.h>

#include <bit>
#include <cstring>

#include "tests/io/writers.h"

namespace squish::io {
namespace {

using testing::error_of;
using testing::floats_as_bytes;

constexpr DType kAll[] = {DType::F32,  DType::F16,  DType::BF16, DType::Q4_0,
                          DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0,
                          DType::Q4_K, DType::Q5_K, DType::Q6_K};

class GoldenBlocks : public ::testing::TestWithParam<DType> {};

TEST_P(GoldenBlocks, DecodeToTheFloatsOfGgufBitForBit) {
  const std::string stem =
      std::string(SQUISH_TEST_DATA "/gguf_types/") + std::string(to_string(GetParam()));
  const MappedFile blocks(stem + ".blocks"), expected(stem + ".f32");
  std::vector<float> decoded(expected.bytes().size() / sizeof(float));
  ASSERT_EQ(blocks.bytes().size(),
            decoded.size() / block_size(GetParam()).elements * block_size(GetParam()).bytes);
  decode_elements(GetParam(), blocks.bytes(), decoded);
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    float value = 0;
    std::memcpy(&value, expected.bytes().data() + 4 * i, 4);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(decoded[i]), std::bit_cast<std::uint32_t>(value))
        << "element " << i << ": " << decoded[i] << ", expected " << value;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GoldenBlocks, ::testing::ValuesIn(kAll + 1, std::end(kAll)),
                         [](const auto& p) { return std::string(to_string(p.param)); });

Tensor float_tensor(const std::string& bytes, std::vector<std::size_t> shape) {
  return {"t", DType::F32, std::move(shape), std::as_bytes(std::span(bytes)), 0};
}

TEST(Tensor, RowsAndColumnsOfEveryRank) {
  Tensor tensor;
  EXPECT_EQ(tensor.elements(), 1u);  // a scalar
  tensor.shape = {7};
  EXPECT_EQ(tensor.rows(), 1u);
  EXPECT_EQ(tensor.cols(), 7u);
  tensor.shape = {2, 3, 5};
  EXPECT_EQ(tensor.rows(), 6u);
  EXPECT_EQ(tensor.cols(), 5u);
  tensor.shape = {4, 0};
  EXPECT_EQ(tensor.elements(), 0u);
}

TEST(ReadMatrix, EmptyTensorGivesEmptyMatrix) {
  ThreadPool pool(1);
  const Matrix matrix = read_matrix(float_tensor("", {4, 0}), pool);
  EXPECT_EQ(matrix.rows(), 4u);
  EXPECT_EQ(matrix.size(), 0u);
}

TEST(ReadMatrix, IsTheSameForAnyNumberOfThreads) {
  std::vector<float> values(300 * 700);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const std::string bytes = floats_as_bytes(values);
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    const Matrix matrix = read_matrix(float_tensor(bytes, {300, 700}), pool);
    ASSERT_EQ(matrix.rows(), 300u);
    EXPECT_EQ(std::memcmp(matrix.data(), values.data(), bytes.size()), 0) << threads;
  }
}

/// What llama.cpp's converter does to q and k: per head, [2][head/2] rows become [head/2][2].
std::vector<float> interleave(const std::vector<float>& model, std::size_t cols, std::size_t head) {
  std::vector<float> file;
  for (std::size_t first = 0; first < model.size() / cols; first += head) {
    for (std::size_t i = 0; i < head / 2; ++i) {
      for (std::size_t half = 0; half < 2; ++half) {
        const std::size_t row = first + half * head / 2 + i;
        file.insert(file.end(), model.begin() + row * cols, model.begin() + (row + 1) * cols);
      }
    }
  }
  return file;
}

TEST(ReadMatrix, PutsInterleavedRowsBackInOrder) {
  constexpr std::size_t kHead = 6;
  ThreadPool pool(2);
  std::vector<float> model(3 * kHead * 5);
  for (std::size_t i = 0; i < model.size(); ++i) model[i] = static_cast<float>(i);
  for (const std::size_t cols : {5, 1}) {
    const std::string bytes = floats_as_bytes(interleave(model, cols, kHead));
    Tensor tensor = float_tensor(bytes, {model.size() / cols, cols});
    if (cols == 1) tensor.shape = {model.size()};  // a bias: its elements are interleaved
    tensor.interleaved_head_rows = kHead;
    const Matrix matrix = read_matrix(tensor, pool);
    EXPECT_EQ(std::vector<float>(matrix.data(), matrix.data() + matrix.size()), model) << cols;
  }
}

TEST(TensorTable, MissingTensorIsNamed) {
  EXPECT_THAT(error_of([] { TensorTable().at("lm_head.weight"); }),
              ::testing::HasSubstr("lm_head.weight"));
}

}  // namespace
}  // namespace squish::io
