#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "squish/io/model_files.h"

/// The checkpoint that `squish quantize` writes: a directory of safetensors files whose tensors are
/// the sections of quantised matrices. docs/format.md defines it. Every file is written whole or
/// not at all and the manifest last, so that what looks whole is. The reader trusts nothing.
namespace squish::io {

inline constexpr int kCheckpointVersion = 1;
inline constexpr const char* kManifestFile = "squish.json";
inline constexpr std::size_t kMaxManifest = 100'000'000;  ///< bytes
inline constexpr const char* kJobFile = "squish.job.json";

/// What the bytes of a checkpoint depend on.
struct CheckpointJob {
  std::string version, commit, isa, blas;
  std::uint64_t seed = 0;
  std::string spec;                                          ///< of all linear layers, in full
  std::vector<std::pair<std::string, std::string>> tensors;  ///< quantised: name, spec in full
  std::string model_sha256, calibration_sha256;              ///< empty: no calibration
  std::string
      sequential_sha256;  ///< of the tokens, where tensors were compressed one behind another
  /// Of a job that chooses specs: the size to meet, and the digest of the tokens it judges by.
  /// `spec` is then all candidates, separated by ';', and the specs of undecided tensors are empty.
  std::string target, held_out_sha256;
};

/// SHA-256 of all of it.
std::string job_digest(const CheckpointJob& job);

/// A sentence on what differs, "the seed was 1 and is 2"; empty if nothing does.
std::string difference(const CheckpointJob& before, const CheckpointJob& now);

/// Writes squish.job.json, which says that a job on this directory is unfinished.
void write_job(const CheckpointJob& job, const std::filesystem::path& directory);
/// Of squish.json or squish.job.json.
CheckpointJob read_job(const std::filesystem::path& file);

/// `packed` as a tensor to write; its spans point into `packed`. `shared_name`: of packed.shared.
Tensor packed_tensor(std::string name, const quant::Packed& packed, std::string shared_name = "");

/// What several tensors share, by name.
using SharedSections = std::map<std::string, std::shared_ptr<const quant::Section>>;
/// "squish.shared.3" for the fourth.
std::string shared_section_name(std::size_t index);

/// "model-00002-of-00211.safetensors" for index 1 of 211.
std::string checkpoint_file_name(std::size_t index, std::size_t count);

/// Writes one model file; checksums are worked out here. `shared` goes into the first one.
void write_checkpoint_file(const std::filesystem::path& path, std::span<const Tensor> tensors,
                           const SharedSections& shared = {});

/// Adds the tensors of one model file to `table`, which knows what they share with others. Checks
/// everything but their checksums.
void read_checkpoint_file(const std::filesystem::path& path, TensorTable& table);

/// Error naming the tensor unless all bytes match their checksums.
void check_sums(const Tensor& tensor);

/// What write_checkpoint_config() may write.
std::vector<std::string> checkpoint_config_names();

/// Writes config.json and the tokenizer's files, so that the checkpoint stands alone.
void write_checkpoint_config(const ModelFiles& source, const std::filesystem::path& directory);

/// The same for a model whose tensors are plain `type`; a tokenizer from GGUF metadata becomes a
/// tokenizer.json.
void write_plain_config(const ModelFiles& source, DType type,
                        const std::filesystem::path& directory);

/// Writes the index and, last, the manifest of a directory in which all `count` model files are.
void write_manifest(const CheckpointJob& job, std::size_t count,
                    const std::filesystem::path& directory);

/// The tensors alone, of whatever architecture; a ModelFiles without config and tokenizer.
ModelFiles open_checkpoint_tensors(const std::filesystem::path& directory);

/// Everything but path and file_bytes; open_model() calls it for a directory with a manifest.
ModelFiles open_checkpoint(const std::filesystem::path& directory);

}  // namespace squish::io
