#pragma once
#include <cstdint>
#include <filesystem>

#include "squish/base/threads.h"
#include "squish/io/model_files.h"

/// What is done with a checkpoint that is whole.
namespace squish::compress {

struct Verified {
  std::size_t files = 0, tensors = 0, quantised = 0;
  std::uint64_t bytes = 0;  ///< of the tensors
  bool is_sealed = false;   ///< and the seal (io/seal.h) is whole
};

/// Opens the checkpoint, compares every checksum and decodes every tensor. Error naming the first
/// file or tensor (in the order of names) that is not as it should be.
Verified verify_checkpoint(const std::filesystem::path& directory, ThreadPool& pool);

/// Writes any model as a plain Hugging Face directory, `type` (F32, F16 or BF16) for all tensors;
/// config.json last. Error if `directory` holds something, or a weight does not fit the type.
void write_plain(const io::ModelFiles& files, io::DType type,
                 const std::filesystem::path& directory, ThreadPool& pool, bool quiet);

}  // namespace squish::compress
