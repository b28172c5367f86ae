#include "squish/io/tensor.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "squish/base/error.h"
#include "squish/base/half.h"

namespace squish::io {
namespace {

// The block layouts are those of ggml (github.com/ggml-org/ggml, src/ggml-common.h). Products and
// sums are rounded to float one after the other, as its reference decoder does.
using Block = const std::uint8_t*;

float half_at(Block at) {
  std::uint16_t h = 0;
  std::memcpy(&h, at, 2);
  return from_f16(h);
}

std::uint32_t word_at(Block at) {
  std::uint32_t word = 0;
  std::memcpy(&word, at, 4);
  return word;
}

// 32 elements of 4 bits: bytes 0..15 hold elements 0..15 in the low and 16..31 in the high nibble.
void decode_q4_0(Block b, float* out) {
  const float scale = half_at(b);
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>((b[2 + i] & 15) - 8);
    out[i + 16] = scale * static_cast<float>((b[2 + i] >> 4) - 8);
  }
}

void decode_q4_1(Block b, float* out) {
  const float scale = half_at(b), minimum = half_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(b[4 + i] & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(b[4 + i] >> 4) + minimum;
  }
}

// As the 4-bit types, with bit i of a 32-bit word as the fifth bit of element i.
void decode_q5_0(Block b, float* out) {
  const float scale = half_at(b);
  const std::uint32_t high = word_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    const int low_code = (b[6 + i] & 15) | static_cast<int>(((high >> i) & 1) << 4);
    const int high_code = (b[6 + i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1) << 4);
    out[i] = scale * static_cast<float>(low_code - 16);
    out[i + 16] = scale * static_cast<float>(high_code - 16);
  }
}

void decode_q5_1(Block b, float* out) {
  const float scale = half_at(b), minimum = half_at(b + 2);
  const std::uint32_t high = word_at(b + 4);
  for (int i = 0; i < 16; ++i) {
    const int low_code = (b[8 + i] & 15) | static_cast<int>(((high >> i) & 1) << 4);
    const int high_code = (b[8 + i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1) << 4);
    out[i] = scale * static_cast<float>(low_code) + minimum;
    out[i + 16] = scale * static_cast<float>(high_code) + minimum;
  }
}

void decode_q8_0(Block b, float* out) {
  const float scale = half_at(b);
  for (int i = 0; i < 32; ++i) {
    out[i] = static_cast<float>(static_cast<std::int8_t>(b[2 + i])) * scale;
  }
}

struct ScaleAndMinimum {
  int scale, minimum;
};

// The 6-bit scales and minima of the 8 groups of a Q4_K or Q5_K block, in 12 bytes: groups 0..3 lie
// in the low six bits of bytes 0..3 and 4..7; groups 4..7 have four bits in bytes 8..11 and two at
// the top of bytes 0..7.
ScaleAndMinimum k_scale(Block scales, int group) {
  if (group < 4) return {scales[group] & 63, scales[group + 4] & 63};
  return {(scales[group + 4] & 15) | (scales[group - 4] >> 6) << 4,
          (scales[group + 4] >> 4) | (scales[group] >> 6) << 4};
}

// 256 elements, 8 groups of 32; the nibbles of each 32 bytes hold two groups, low nibbles first.
void decode_q4_k(Block b, float* out) {
  const float scale = half_at(b), minimum = half_at(b + 2);
  for (int group = 0; group < 8; ++group) {
    const auto [s, m] = k_scale(b + 4, group);
    const float d = scale * static_cast<float>(s), offset = minimum * static_cast<float>(m);
    const Block codes = b + 16 + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int i = 0; i < 32; ++i) {
      out[32 * group + i] = d * static_cast<float>((codes[i] >> shift) & 15) - offset;
    }
  }
}

// As Q4_K, with bit `group` of byte i as the fifth bit of element i of the group.
void decode_q5_k(Block b, float* out) {
  const float scale = half_at(b), minimum = half_at(b + 2);
  const Block high = b + 16;
  for (int group = 0; group < 8; ++group) {
    const auto [s, m] = k_scale(b + 4, group);
    const float d = scale * static_cast<float>(s), offset = minimum * static_cast<float>(m);
    const Block codes = b + 48 + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int i = 0; i < 32; ++i) {
      const int code = ((codes[i] >> shift) & 15) | ((high[i] >> group) & 1) << 4;
      out[32 * group + i] = d * static_cast<float>(code) - offset;
    }
  }
}

// 256 elements, 16 groups of 16 with signed 8-bit scales. In each half of 128 elements, run r (of
// 32) has its low four bits in nibble r / 2 of bytes 32 * (r % 2) + i, and its high two in bits
// 2r, 2r + 1 of byte i.
void decode_q6_k(Block b, float* out) {
  const float scale = half_at(b + 208);
  for (int half = 0; half < 2; ++half) {
    const Block low = b + 64 * half, high = b + 128 + 32 * half, scales = b + 192 + 8 * half;
    for (int run = 0; run < 4; ++run) {
      for (int i = 0; i < 32; ++i) {
        const int code =
            ((low[32 * (run % 2) + i] >> (4 * (run / 2))) & 15) | ((high[i] >> (2 * run)) & 3) << 4;
        const auto group_scale = static_cast<std::int8_t>(scales[2 * run + i / 16]);
        const float d = scale * static_cast<float>(group_scale);
        out[128 * half + 32 * run + i] = d * static_cast<float>(code - 32);
      }
    }
  }
}

template <class Decode>
void decode_blocks(DType type, Block bytes, std::span<float> out, Decode decode) {
  const BlockSize size = block_size(type);
  for (std::size_t i = 0; i < out.size() / size.elements; ++i) {
    decode(bytes + i * size.bytes, out.data() + i * size.elements);
  }
}

/// For errors.
std::string first_file(const TensorTable& table) {
  return table.files.empty() ? "model" : table.files.front().path().string();
}

}  // namespace

std::string_view to_string(DType type) {
  static constexpr std::array<std::string_view, 14> kNames = {
      "F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
      "Q8_0", "Q4_K", "Q5_K", "Q6_K", "U8",   "F64",  "squish"};
  return kNames[static_cast<std::size_t>(type)];
}

BlockSize block_size(DType type) {
  static constexpr std::array<BlockSize, 13> kSizes = {{{1, 4},
                                                        {1, 2},
                                                        {1, 2},
                                                        {32, 18},
                                                        {32, 20},
                                                        {32, 22},
                                                        {32, 24},
                                                        {32, 34},
                                                        {256, 144},
                                                        {256, 176},
                                                        {256, 210},
                                                        {1, 1},
                                                        {1, 8}}};
  assert(type != DType::squish);
  return kSizes[static_cast<std::size_t>(type)];
}

std::size_t Tensor::stored_bytes() const {
  std::size_t total = bytes.size();
  if (packed != nullptr) {
    for (const StoredSection& section : packed->sections) total += section.bytes.size();
  }
  return total;
}

std::size_t TensorTable::shared_bytes() const {
  std::size_t total = 0;
  for (const auto& [name, section] : shared) total += section->bytes.size();
  return total;
}

std::size_t Tensor::elements() const { return rows() * cols(); }

std::size_t Tensor::rows() const {
  std::size_t product = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) product *= shape[i];
  return product;
}

std::size_t Tensor::cols() const { return shape.empty() ? 1 : shape.back(); }

const Tensor& TensorTable::at(std::string_view name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail("{}: there is no tensor '{}'", first_file(*this), name);
  return found->second;
}

const Tensor& TensorTable::at(std::string_view name, DType type,
                              const std::vector<std::size_t>& shape) const {
  const Tensor& tensor = at(name);
  if (tensor.type != type || tensor.shape != shape) {
    fail("{}: tensor '{}' must have dtype {} and shape [{}]", first_file(*this), name,
         to_string(type), fmt::join(shape, ", "));
  }
  return tensor;
}

void decode_elements(DType type, std::span<const std::byte> bytes, std::span<float> out) {
  assert(out.size() % block_size(type).elements == 0);
  assert(bytes.size() == out.size() / block_size(type).elements * block_size(type).bytes);
  const Block b = reinterpret_cast<Block>(bytes.data());
  switch (type) {
    case DType::F32:
      if (!out.empty()) std::memcpy(out.data(), b, bytes.size());
      return;
    case DType::F16:
      return decode_blocks(type, b, out, [](Block at, float* to) { *to = half_at(at); });
    case DType::BF16:
      return decode_blocks(type, b, out, [](Block at, float* to) {
        std::uint16_t h = 0;
        std::memcpy(&h, at, 2);
        *to = from_bf16(h);
      });
    case DType::Q4_0:
      return decode_blocks(type, b, out, decode_q4_0);
    case DType::Q4_1:
      return decode_blocks(type, b, out, decode_q4_1);
    case DType::Q5_0:
      return decode_blocks(type, b, out, decode_q5_0);
    case DType::Q5_1:
      return decode_blocks(type, b, out, decode_q5_1);
    case DType::Q8_0:
      return decode_blocks(type, b, out, decode_q8_0);
    case DType::Q4_K:
      return decode_blocks(type, b, out, decode_q4_k);
    case DType::Q5_K:
      return decode_blocks(type, b, out, decode_q5_k);
    case DType::Q6_K:
      return decode_blocks(type, b, out, decode_q6_k);
    case DType::U8:
      return decode_blocks(type, b, out, [](Block at, float* to) { *to = *at; });
    case DType::F64:
      return decode_blocks(type, b, out, [](Block at, float* to) {
        double value = 0;
        std::memcpy(&value, at, sizeof value);
        *to = static_cast<float>(value);
      });
    case DType::squish:
      return;  // has no elements of its own: read_packed()
  }
}

void check_sum(std::span<const std::byte> bytes, const std::string& expected,
               const std::string& name) {
  if (!expected.empty() && sha256(bytes) != expected) {
    fail("tensor '{}': the checksum does not match, so its bytes are not those that were written",
         name);
  }
}

void forget_sums(TensorTable& table) {
  for (auto& [name, tensor] : table.tensors) {
    tensor.sha256.clear();
    if (tensor.packed == nullptr) continue;
    StoredPacked packed = *tensor.packed;
    for (StoredSection& section : packed.sections) section.sha256.clear();
    tensor.packed = std::make_shared<const StoredPacked>(std::move(packed));
  }
}

std::size_t stored_row(const Tensor& tensor, std::size_t row) {
  const std::size_t head = tensor.interleaved_head_rows;
  if (head == 0) return row;
  // Row 2i + half of a head in the file is row half * head/2 + i in the model.
  const std::size_t in_head = row % head;
  return row - in_head + 2 * (in_head % (head / 2)) + in_head / (head / 2);
}

quant::Packed read_packed(const Tensor& tensor, Placement placement) {
  if (tensor.packed == nullptr || tensor.shape.size() != 2) {
    fail("tensor '{}' is not a quantised matrix", tensor.name);
  }
  const auto parse = [&] {
    try {
      return quant::Spec::parse(tensor.packed->spec);
    } catch (const Error& error) {
      fail("tensor '{}': {}", tensor.name, error.what());
    }
  };
  quant::Packed packed{parse(), tensor.rows(), tensor.cols(), {}};
  for (const StoredSection& section : tensor.packed->sections) {
    check_sum(section.bytes, section.sha256, tensor.name + "." + section.name);
    const bool is_mapped = placement == Placement::mapped && tensor.packed->owner != nullptr;
    packed.sections.push_back(
        {section.name, section.part,
         is_mapped ? SharedBytes(section.bytes, tensor.packed->owner)
                   : SharedBytes(Bytes(section.bytes.begin(), section.bytes.end()))});
  }
  packed.shared = tensor.packed->shared;
  return packed;
}

void read_row(const Tensor& tensor, std::size_t row, std::span<float> out) {
  const std::size_t bytes = tensor.bytes.size() / tensor.rows();
  decode_elements(tensor.type, tensor.bytes.subspan(stored_row(tensor, row) * bytes, bytes), out);
}

Matrix read_matrix(const Tensor& tensor, ThreadPool& pool) {
  if (tensor.packed != nullptr) return quant::dequantize(read_packed(tensor), pool);
  check_sum(tensor.bytes, tensor.sha256, tensor.name);
  Matrix out(tensor.rows(), tensor.cols());
  if (out.size() == 0) return out;
  // A vector (a bias) is one run of bytes, but its elements are what a matrix's rows are.
  const bool vector = tensor.shape.size() <= 1;
  if (vector) {
    std::vector<float> stored(out.size());
    decode_elements(tensor.type, tensor.bytes, stored);
    for (std::size_t i = 0; i < stored.size(); ++i) out(0, i) = stored[stored_row(tensor, i)];
    return out;
  }
  const std::size_t grain = std::max<std::size_t>(1, 65536 / out.cols());
  parallel_for(pool, out.rows(), grain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row) read_row(tensor, row, out.row(row));
  });
  return out;
}

}  // namespace squish::io
