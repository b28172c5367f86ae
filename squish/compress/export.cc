#include "squish/compress/export.h"

#include <cmath>
#include <cstring>

#include "squish/base/error.h"
#include "squish/base/half.h"
#include "squish/base/progress.h"
#include "squish/io/checkpoint.h"
#include "squish/io/safetensors.h"
#include "squish/io/seal.h"
#include "squish/model/transformer.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kShardBytes = std::size_t{1} << 30;

/// The bytes of `weights`, those of `name` in the model at `path`, as `type`; Error where that has
/// no room for a weight.
std::vector<std::byte> to_type(ConstMatrixView weights, io::DType type, const fs::path& path,
                               const std::string& name, ThreadPool& pool) {
  const std::size_t size = io::block_size(type).bytes;
  std::vector<std::byte> bytes(weights.size() * size);
  parallel_for(pool, weights.size(), std::size_t{1} << 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const float w = weights.data[i];
      if (type == io::DType::F32) {
        std::memcpy(bytes.data() + 4 * i, &w, 4);
        continue;
      }
      const std::uint16_t half = type == io::DType::F16 ? to_f16(w) : to_bf16(w);
      const float back = type == io::DType::F16 ? from_f16(half) : from_bf16(half);
      if (!std::isfinite(back)) {
        fail("{}: tensor '{}' holds {:g}, which {} has no room for", path.string(), name, w,
             io::to_string(type));
      }
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
  });
  return bytes;
}

/// Names of the tensors of each file, so that none but a single tensor exceeds kShardBytes.
std::vector<std::vector<std::string>> cut_into_shards(const io::ModelFiles& files,
                                                      std::size_t element_bytes) {
  std::vector<std::vector<std::string>> shards(1);
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : files.table.tensors) {
    const std::size_t size = tensor.elements() * element_bytes;
    if (bytes > 0 && bytes + size > kShardBytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().push_back(name);
  }
  return shards;
}

}  // namespace

Verified verify_checkpoint(const fs::path& directory, ThreadPool& pool) {
  if (!fs::exists(directory / io::kManifestFile) && !fs::exists(directory / io::kJobFile)) {
    fail("{}: not a squish checkpoint: {} is missing", directory.string(), io::kManifestFile);
  }
  std::string unknown;  // tensors can be verified whatever they are for
  const io::ModelFiles files = io::open_tensors(directory, unknown);
  Verified verified{.files = files.table.files.size()};
  for (const auto& [name, tensor] : files.table.tensors) {
    verified.tensors += 1;
    verified.quantised += tensor.packed != nullptr;
    verified.bytes += tensor.stored_bytes();
    model::load_weights(files, name, pool);
  }
  verified.bytes += files.table.shared_bytes();
  verified.is_sealed = io::check_seal(directory);
  return verified;
}

void write_plain(const io::ModelFiles& files, io::DType type, const fs::path& directory,
                 ThreadPool& pool, bool quiet) {
  std::error_code error;
  if (fs::exists(directory, error) && !fs::is_empty(directory, error)) {
    fail("{}: exists already", directory.string());
  }
  fs::create_directories(directory, error);
  if (error) fail("{}: cannot be made: {}", directory.string(), error.message());
  const auto shards = cut_into_shards(files, io::block_size(type).bytes);
  std::map<std::string, std::string> shard_of;
  Progress progress("write", static_cast<double>(files.table.tensors.size()), quiet);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string file =
        shards.size() == 1 ? "model.safetensors" : io::checkpoint_file_name(i, shards.size());
    std::vector<std::vector<std::byte>> bytes;
    std::vector<io::StoredTensor> stored;
    for (const std::string& name : shards[i]) {
      const Matrix weights = model::load_weights(files, name, pool);
      bytes.push_back(to_type(weights, type, files.path, name, pool));
      stored.push_back({name, type, files.table.at(name).shape, bytes.back()});
      shard_of[name] = file;
      progress.advance(1, name);
    }
    io::write_safetensors(directory / file, stored, {{"format", "pt"}}, io::Padding::none);
  }
  if (shards.size() > 1) io::write_safetensors_index(shard_of, directory);
  io::write_plain_config(files, type, directory);
}

}  // namespace squish::compress
