#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "squish/base/file.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/quant/quantizer.h"

namespace squish::io {

/// How the elements of a stored tensor are encoded. The Q types are GGUF's blocks; `squish` is a
/// matrix in one of our methods' sections; U8 holds bytes that some other file explains.
enum class DType {
  F32,
  F16,
  BF16,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q8_0,
  Q4_K,
  Q5_K,
  Q6_K,
  U8,
  F64,
  squish
};

std::string_view to_string(DType type);
/// Elements per block and bytes per block: {1, 4} for F32, {32, 18} for Q4_0, ... Not for `squish`.
struct BlockSize {
  std::size_t elements, bytes;
};
BlockSize block_size(DType type);
/// Whether it is one of GGUF's blocks.
inline bool is_quantized(DType type) { return block_size(type).elements > 1; }

/// A quantised matrix as it lies in a checkpoint (checkpoint.h): io knows its sections as bytes.
struct StoredSection {
  std::string name;
  quant::Part part;
  std::span<const std::byte> bytes;
  std::string sha256;
};
struct StoredPacked {
  std::string spec;  ///< in full
  std::vector<StoredSection> sections;
  std::shared_ptr<const void> owner = nullptr;  ///< keeps the sections alive
  /// One more that other tensors have as well, and its name in the checkpoint; null: none.
  std::shared_ptr<const quant::Section> shared = nullptr;
  std::string shared_name = {};
};

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
  /// Of `bytes`, checked when they are read; empty: unknown.
  std::string sha256 = {};
  /// The sections of a tensor of type `squish`, whose `bytes` are empty; null for all others.
  std::shared_ptr<const StoredPacked> packed = nullptr;
  /// Keeps `bytes` alive; null: whoever made the tensor does.
  std::shared_ptr<const void> owner = nullptr;

  std::size_t stored_bytes() const;  ///< paddings and what it shares with others apart
  std::size_t elements() const;
  std::size_t rows() const;  ///< product of all dimensions but the last; 1 for a vector
  std::size_t cols() const;  ///< the last dimension
};

/// The tensors of one model by name, and the mapped files that they lie in.
struct TensorTable {
  std::vector<MappedFile> files;
  std::map<std::string, Tensor, std::less<>> tensors;
  /// Sections that several tensors share, by their names in the checkpoint; checked, copied.
  std::map<std::string, std::shared_ptr<const quant::Section>> shared;

  std::size_t shared_bytes() const;  ///< stored
  bool contains(std::string_view name) const { return tensors.contains(name); }
  /// Error that names `name` and the first file if there is none.
  const Tensor& at(std::string_view name) const;
  /// The same if it does not have this type and shape.
  const Tensor& at(std::string_view name, DType type, const std::vector<std::size_t>& shape) const;
};

/// Decodes `count` consecutive elements from `bytes` (whole blocks) exactly as the type defines
/// them; the result is the float that GGUF's reference decoder gives, bit for bit.
void decode_elements(DType type, std::span<const std::byte> bytes, std::span<float> out);

/// Which row of the file is row `row` of the model.
std::size_t stored_row(const Tensor& tensor, std::size_t row);

/// Error naming the tensor unless `expected` is empty or the SHA-256 of `bytes`.
void check_sum(std::span<const std::byte> bytes, const std::string& expected,
               const std::string& name);

/// From here on what is read of these tensors is not compared with their checksums.
void forget_sums(TensorTable& table);

/// Whether what is read stays where the file is mapped, which takes no memory that the system
/// cannot take back, or is copied, into huge pages.
enum class Placement { mapped, copied };

/// A tensor of type `squish` as its method takes it. Error naming the tensor if a checksum or the
/// spec is wrong.
quant::Packed read_packed(const Tensor& tensor, Placement placement = Placement::mapped);

/// The whole tensor as rows() x cols() floats, rows in model order. Error naming the tensor if its
/// bytes do not match their checksum.
Matrix read_matrix(const Tensor& tensor, ThreadPool& pool);

/// One row of a matrix that is not of type `squish`, and no more; its checksum is the caller's.
void read_row(const Tensor& tensor, std::size_t row, std::span<float> out);

}  // namespace squish::io
