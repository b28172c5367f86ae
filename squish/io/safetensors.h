#pragma once
#include <filesystem>

#include "squish/io/tensor.h"

/// Safetensors: u64 little-endian header length, JSON header, data. The reader trusts nothing: the
/// header is at most 100 MB, keys are unique, offsets tile the data without gap or overlap, shapes
/// do not overflow and match the byte counts. Each violation is an Error that names file and
/// tensor.
namespace squish::io {

/// Adds the F32, F16 and BF16 tensors of one file; a tensor of another type or a name that is
/// already there is an Error.
void read_safetensors(const std::filesystem::path& path, TensorTable& table);

/// One file, U8 and F64 allowed besides, and its __metadata__.
struct SafetensorsFile {
  TensorTable table;
  std::map<std::string, std::string> metadata;

  /// Of the metadata; empty: there is none by this name.
  std::string text(const std::string& name) const;
  /// Error unless the metadata have the tensor's SHA-256 under its name.
  void check_sum(const Tensor& tensor) const;
};
SafetensorsFile read_safetensors_file(const std::filesystem::path& path);

/// What write_safetensors() takes: `bytes` under `name`, with `type` one of F32, F16, BF16, F64 and
/// U8.
struct StoredTensor {
  std::string name;
  DType type;
  std::vector<std::size_t> shape;
  std::span<const std::byte> bytes;
};

/// aligned: each tensor begins on a multiple of kAlignment bytes of the file; the gaps are tensors
/// __padding__.N, which other tools may not expect.
enum class Padding { none, aligned };
/// Writes one file, whole or not at all, its data in the given order.
void write_safetensors(const std::filesystem::path& path, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata,
                       Padding padding = Padding::aligned);
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

/// Writes it: the file of each tensor.
void write_safetensors_index(const std::map<std::string, std::string>& files,
                             const std::filesystem::path& directory);
inline constexpr const char* kPadding = "__padding__.";

/// All shards that `model.safetensors.index.json` in `directory` names, or `model.safetensors`
/// where there is no index. Shard names may not leave the directory.
TensorTable read_safetensors_directory(const std::filesystem::path& directory);

}  // namespace squish::io
