#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "squish/base/file.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"

namespace squish::io {

/// How the elements of a stored tensor are encoded. The Q types are GGUF's blocks.
enum class DType { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K };

std::string_view to_string(DType type);
/// Elements per block and bytes per block: {1, 4} for F32, {32, 18} for Q4_0, ...
struct BlockSize {
  std::size_t elements, bytes;
};
BlockSize block_size(DType type);

/// A tensor as it lies in a file: a name, a shape (outermost dimension first) and bytes that some
/// MappedFile keeps alive. Readers guarantee that bytes.size() is what type and shape need and that
/// the element count does not overflow.
struct Tensor {
  std::string name;
  DType type = DType::F32;
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;
  /// Rows are stored in llama.cpp's interleaved order for rotary heads of this many rows each, and
  /// read_matrix() puts them back; 0: rows are in order. (GGUF files of the Llama architecture.)
  std::size_t interleaved_head_rows = 0;

  std::size_t elements() const;
  std::size_t rows() const;  ///< product of all dimensions but the last; 1 for a vector
  std::size_t cols() const;  ///< the last dimension
};

/// The tensors of one model by name, and the mapped files that they lie in.
struct TensorTable {
  std::vector<MappedFile> files;
  std::map<std::string, Tensor, std::less<>> tensors;

  bool contains(std::string_view name) const { return tensors.contains(name); }
  /// Error that names `name` and the first file if there is none.
  const Tensor& at(std::string_view name) const;
};

/// Decodes `count` consecutive elements from `bytes` (whole blocks) exactly as the type defines
/// them; the result is the float that GGUF's reference decoder gives, bit for bit.
void decode_elements(DType type, std::span<const std::byte> bytes, std::span<float> out);

/// The whole tensor as rows() x cols() floats, rows in model order.
Matrix read_matrix(const Tensor& tensor, ThreadPool& pool);

}  // namespace squish::io
