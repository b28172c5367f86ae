// config.json and the tokenizer's files of a checkpoint.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "squish/base/error.h"
#include "squish/io/architecture.h"
#include "squish/io/checkpoint.h"
#include "squish/io/hf_tokenizer.h"
#include "squish/io/json.h"
#include "squish/io/own_tokenizer.h"

namespace squish::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxConfig = 1 << 20;
constexpr std::size_t kMaxCopied = std::size_t{128} << 20;
constexpr const char* kQuantization = "quantization_config";

json rope_json(const Rope& rope) {
  json scaling = {{"factor", rope.factor}};
  switch (rope.scaling) {
    case Rope::Scaling::none:
      return nullptr;
    case Rope::Scaling::linear:
      scaling["rope_type"] = "linear";
      break;
    case Rope::Scaling::dynamic_ntk:
      scaling["rope_type"] = "dynamic";
      break;
    case Rope::Scaling::llama3:
      scaling["rope_type"] = "llama3";
      scaling["low_freq_factor"] = rope.low_freq_factor;
      scaling["high_freq_factor"] = rope.high_freq_factor;
      break;
    case Rope::Scaling::yarn:
      scaling["rope_type"] = "yarn";
      scaling["beta_fast"] = rope.beta_fast;
      scaling["beta_slow"] = rope.beta_slow;
      scaling["attention_factor"] = rope.attention_factor;
      break;
  }
  if (rope.scaling == Rope::Scaling::llama3 || rope.scaling == Rope::Scaling::yarn) {
    scaling["original_max_position_embeddings"] = static_cast<std::size_t>(rope.original_context);
  }
  return scaling;
}

/// The scaling of Llama 3 that comes to the divisors which a GGUF file has in its place.
Rope llama3_rope(const ModelFiles& source) {
  const std::vector<float>& divisors = source.config.rope.frequency_divisors;
  Rope rope = source.config.rope;
  rope.scaling = Rope::Scaling::llama3;
  rope.factor = *std::ranges::max_element(divisors);
  rope.original_context = 8192;  // of all that Meta has published so far
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(divisors.size());
    const double rotations =
        rope.original_context * std::pow(rope.theta, -share) / (2 * std::numbers::pi);
    if (std::abs(divisors[i] * llama3_scale(rope, rotations) - 1) > 1e-4) {
      fail(
          "{}: its divisors of RoPE's frequencies (rope_freqs.weight) are not Llama 3's, and no "
          "other can be put into a config.json that other programs read",
          source.path.string());
    }
  }
  return rope;
}

/// config.json for a model that has none: every field that read_hf_config() reads.
json made_config(const ModelFiles& source) {
  const ModelConfig& c = source.config;
  const bool mistral = c.family == Family::llama && c.sliding_window > 0;
  const char* const type = c.family == Family::qwen3   ? "qwen3"
                           : c.family == Family::qwen2 ? "qwen2"
                           : mistral                   ? "mistral"
                                                       : "llama";
  const char* const architecture = c.family == Family::qwen3   ? "Qwen3ForCausalLM"
                                   : c.family == Family::qwen2 ? "Qwen2ForCausalLM"
                                   : mistral                   ? "MistralForCausalLM"
                                                               : "LlamaForCausalLM";
  json config = {{"architectures", {architecture}},
                 {"model_type", type},
                 {"hidden_act", "silu"},
                 {"vocab_size", c.vocab},
                 {"hidden_size", c.hidden},
                 {"intermediate_size", c.intermediate},
                 {"num_hidden_layers", c.layers},
                 {"num_attention_heads", c.heads},
                 {"num_key_value_heads", c.kv_heads},
                 {"head_dim", c.head_dim},
                 {"max_position_embeddings", c.max_context},
                 {"rms_norm_eps", c.norm_eps},
                 {"rope_theta", c.rope.theta},
                 {"tie_word_embeddings", c.tied_embeddings}};
  if (const json scaling = rope_json(c.rope); !scaling.is_null()) config["rope_scaling"] = scaling;
  if (!c.rope.frequency_divisors.empty()) config[kFrequencyDivisors] = c.rope.frequency_divisors;
  if (c.sliding_window > 0) config["sliding_window"] = c.sliding_window;
  if (c.sliding_window > 0 && !mistral) {
    config["use_sliding_window"] = true;
    config["max_window_layers"] = 0;
  }
  if (c.family != Family::qwen2) {
    const bool bias = source.table.contains("model.layers.0.self_attn.q_proj.bias");
    if (bias != source.table.contains("model.layers.0.self_attn.o_proj.bias")) {
      fail("{}: biases of only some attention layers cannot be put into a config.json",
           source.path.string());
    }
    config["attention_bias"] = bias;
  }
  for (const auto& [key, id] : {std::pair{"bos_token_id", source.tokenizer.bos},
                                std::pair{"eos_token_id", source.tokenizer.eos}}) {
    if (id) config[key] = *id;
  }
  return config;
}

json config_of(const ModelFiles& source) {
  return fs::is_directory(source.path) ? read_json(source.path / "config.json", kMaxConfig)
                                       : made_config(source);
}

void copy_files(const ModelFiles& source, std::initializer_list<const char*> names,
                const fs::path& directory) {
  for (const char* name : names) {
    if (!fs::exists(source.path / name)) continue;
    write_atomically(directory / name, read_text(source.path / name, kMaxCopied));
  }
}

constexpr std::initializer_list<const char*> kTokenizerFiles = {
    "tokenizer.json",      "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "tokenizer.model",       "generation_config.json",  "vocab.json",
    "merges.txt"};

}  // namespace

std::vector<std::string> checkpoint_config_names() {
  std::vector<std::string> names(kTokenizerFiles.begin(), kTokenizerFiles.end());
  names.insert(names.end(), {"config.json", kTokenizerFile});
  return names;
}

void write_checkpoint_config(const ModelFiles& source, const fs::path& directory) {
  json config = config_of(source);
  config[kQuantization] = {{"quant_method", "squish"}, {"format_version", kCheckpointVersion}};
  write_atomically(directory / "config.json", config.dump(2) + "\n");
  if (!fs::is_directory(source.path)) {
    write_own_tokenizer(source.tokenizer, directory / kTokenizerFile);
    return;
  }
  copy_files(source, kTokenizerFiles, directory);
  copy_files(source, {kTokenizerFile}, directory);
}

void write_plain_config(const ModelFiles& source, DType type, const fs::path& directory) {
  const bool has_files = fs::exists(source.path / "tokenizer.json");
  if (has_files) copy_files(source, kTokenizerFiles, directory);
  if (!has_files && source.tokenizer.kind != TokenizerData::Kind::none) {
    write_hf_tokenizer(source.tokenizer, directory);
  }
  json config = config_of(source);
  config.erase(kQuantization);
  if (config.erase(kFrequencyDivisors) > 0) config["rope_scaling"] = rope_json(llama3_rope(source));
  config["torch_dtype"] = type == DType::F32   ? "float32"
                          : type == DType::F16 ? "float16"
                                               : "bfloat16";
  write_atomically(directory / "config.json", config.dump(2) + "\n");
}

}  // namespace squish::io
