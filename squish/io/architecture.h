#pragma once
#include "squish/base/error.h"
#include "squish/io/gguf.h"
#include "squish/io/model_files.h"

/// What open_model() is made of: each container's description of a model brought to one form, and
/// the check that the tensors are exactly those that the description calls for.
namespace squish::io {

/// The model is none that can be run; its tensors may still be of use.
class UnknownArchitecture : public Error {
 public:
  using Error::Error;
};

struct Architecture {
  ModelConfig config;
  bool qkv_bias = false, output_bias = false;
};

/// A key of our own in the config.json of checkpoints from GGUF files that have rope_freqs.weight.
inline constexpr const char* kFrequencyDivisors = "squish_rope_frequency_divisors";

/// config.json of a Hugging Face directory, as transformers 4 and 5 write it (hf_config.cc).
Architecture read_hf_config(const std::filesystem::path& config_json);

/// Hugging Face's name of a GGUF tensor ("blk.3.attn_q.weight"); what is not in the tables stays as
/// it is, for check_architecture() to report.
std::string hf_name(std::string_view gguf);
/// The metadata and tensor names of a GGUF file (gguf_model.cc).
Architecture read_gguf_architecture(const GgufFile& file);
/// Marks the q and k rows that llama.cpp's converter interleaves, so that read_matrix() puts them
/// in order: those of the Llama architecture. Files of other architectures stay as they are.
void mark_interleaved_rows(GgufFile& file);
/// The file's tensors under Hugging Face's names, with interleaved q and k rows marked as such and
/// without rope_freqs.weight, which is part of the config.
TensorTable hf_named_tensors(const GgufFile& file, const ModelConfig& config);

/// Error unless the config's numbers make sense together and `table` holds exactly the tensors of
/// the architecture in their shapes. `path` is named in errors.
void check_architecture(const Architecture& architecture, const TensorTable& table,
                        const std::filesystem::path& path);

}  // namespace squish::io
