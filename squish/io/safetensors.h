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

/// All shards that `model.safetensors.index.json` in `directory` names, or `model.safetensors`
/// where there is no index. Shard names may not leave the directory.
TensorTable read_safetensors_directory(const std::filesystem::path& directory);

}  // namespace squish::io
