#include "squish/model/stored_linear.h"

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/kernels/half.h"

namespace squish::model {
namespace {

constexpr std::size_t kElements = 32;  // of a block
constexpr std::uint16_t kF16Exponent = 0x7c00, kBf16Exponent = 0x7f80;

bool is_finite(const void* half, std::uint16_t exponent) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, half, 2);
  return (bits & exponent) != exponent;
}

/// Where a GGUF block has what: scale (and, if it is not symmetric, minimum) as halves, the fifth
/// bits of all elements, codes of four bits (the first 16 elements' are the low halves) or eight.
struct Affine {
  unsigned bits;
  bool symmetric;

  std::size_t high() const { return symmetric ? 2 : 4; }
  std::size_t codes() const { return high() + (bits == 5 ? 4 : 0); }

  std::uint32_t code(const std::uint8_t* block, std::size_t i) const {
    if (bits == 8) return static_cast<std::uint8_t>(block[codes() + i] ^ 0x80);  // to offset binary
    const std::uint32_t low = block[codes() + i % 16] >> (i < 16 ? 0 : 4) & 15;
    return bits == 4 ? low : low | (block[high() + i / 8] >> (i % 8) & 1u) << 4;
  }
};

std::optional<Affine> affine(io::DType type) {
  switch (type) {
    case io::DType::Q4_0:
      return Affine{4, true};
    case io::DType::Q4_1:
      return Affine{4, false};
    case io::DType::Q5_0:
      return Affine{5, true};
    case io::DType::Q5_1:
      return Affine{5, false};
    case io::DType::Q8_0:
      return Affine{8, true};
    default:
      return {};
  }
}

quant::Packed as_int(const io::Tensor& tensor, const Affine& form) {
  io::check_sum(tensor.bytes, tensor.sha256, tensor.name);
  const std::size_t rows = tensor.rows(), cols = tensor.cols(), groups = cols / kElements;
  const std::size_t size = io::block_size(tensor.type).bytes;
  const std::string spec =
      "int" + std::to_string(form.bits) + ":g=32,scale=f16,sym=" + (form.symmetric ? "1" : "0");
  Bytes codes, scale(2 * rows * groups), zero(form.symmetric ? 0 : 2 * rows * groups);
  std::vector<std::uint32_t> row_codes(cols);
  for (std::size_t row = 0; row < rows; ++row) {
    const auto* block = reinterpret_cast<const std::uint8_t*>(tensor.bytes.data()) +
                        io::stored_row(tensor, row) * groups * size;
    for (std::size_t g = 0; g < groups; ++g, block += size) {
      for (std::size_t i = 0; i < kElements; ++i) {
        row_codes[g * kElements + i] = form.code(block, i);
      }
      if (!is_finite(block, kF16Exponent) ||
          (!form.symmetric && !is_finite(block + 2, kF16Exponent))) {
        fail("tensor '{}' has a scale that is not finite at row {}, column {}", tensor.name, row,
             g * kElements);
      }
      std::memcpy(&scale[2 * (row * groups + g)], block, 2);
      if (!form.symmetric) std::memcpy(&zero[2 * (row * groups + g)], block + 2, 2);
    }
    const Bytes packed = pack_bits(row_codes, form.bits);
    codes.insert(codes.end(), packed.begin(), packed.end());
  }
  quant::Packed result{quant::Spec::parse(spec), rows, cols, {}};
  result.sections.push_back({"q", quant::Part::indices, std::move(codes)});
  result.sections.push_back({"scale", quant::Part::scales, std::move(scale)});
  if (!form.symmetric) {
    result.sections.push_back({"zero", quant::Part::scales, std::move(zero)});
  }
  return result;
}

}  // namespace

std::shared_ptr<const quant::Packed> stored_as_packed(const io::Tensor& tensor,
                                                      io::Placement placement) {
  if (tensor.packed != nullptr) {
    return std::make_shared<const quant::Packed>(io::read_packed(tensor, placement));
  }
  const auto form = affine(tensor.type);
  if (!form || tensor.shape.size() != 2 || tensor.cols() % kElements != 0) return nullptr;
  return std::make_shared<const quant::Packed>(as_int(tensor, *form));
}

StoredWeights stored_weights(const io::Tensor& tensor, io::Placement placement) {
  if (const auto packed = stored_as_packed(tensor, placement)) return packed_weights(packed, true);
  StoredWeights weights{tensor.rows(), tensor.cols(), 0, {}, nullptr};
  const bool is_f16 = tensor.type == io::DType::F16;
  if ((!is_f16 && tensor.type != io::DType::BF16) || tensor.shape.size() != 2) return weights;
  if (tensor.elements() == 0) return weights;
  io::check_sum(tensor.bytes, tensor.sha256, tensor.name);
  const std::size_t row_bytes = 2 * weights.cols;
  const bool is_mapped = placement == io::Placement::mapped && tensor.owner != nullptr &&
                         tensor.interleaved_head_rows == 0;
  Bytes copy(is_mapped ? 0 : tensor.bytes.size());
  for (std::size_t row = 0; row < weights.rows; ++row) {
    const std::byte* const from = tensor.bytes.data() + io::stored_row(tensor, row) * row_bytes;
    if (!is_mapped) std::memcpy(copy.data() + row * row_bytes, from, row_bytes);
    for (std::size_t j = 0; j < weights.cols; ++j) {
      if (is_finite(from + 2 * j, is_f16 ? kF16Exponent : kBf16Exponent)) continue;
      fail("tensor '{}' holds what is not finite at row {}, column {}; expected finite weights",
           tensor.name, row, j);
    }
  }
  const auto values = std::make_shared<const SharedBytes>(
      is_mapped ? SharedBytes(tensor.bytes, tensor.owner) : SharedBytes(std::move(copy)));
  weights.bytes = values->size();
  weights.kernel = kernels::half_kernel(values, *values, weights.rows, weights.cols,
                                        is_f16 ? kernels::Element::f16 : kernels::Element::bf16);
  weights.decode = [values, row_bytes, type = tensor.type](MatrixView out, ThreadPool& pool) {
    parallel_for(pool, out.rows, 16, [&](std::size_t begin, std::size_t end) {
      for (std::size_t row = begin; row < end; ++row) {
        io::decode_elements(type, std::span(*values).subspan(row * row_bytes, row_bytes),
                            out.row(row));
      }
    });
  };
  return weights;
}

}  // namespace squish::model
