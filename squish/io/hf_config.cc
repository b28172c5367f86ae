// config.json of Hugging Face models. Defaults are those of transformers' config classes. Version 5
// of transformers moved rope_theta and rope_scaling into one object, rope_parameters.
#include <cmath>

#include "squish/base/error.h"
#include "squish/io/architecture.h"
#include "squish/io/checkpoint.h"
#include "squish/io/json.h"

namespace squish::io {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxConfig = 1 << 20;

std::string architecture_name(const Fields& config) {
  const json* names = config.find("architectures");
  if (names == nullptr || !names->is_array() || names->size() != 1 || !names->at(0).is_string()) {
    fail("{}: 'architectures' must hold one name", config.where());
  }
  return names->at(0);
}

Family parse_family(const std::string& architecture, const std::string& where) {
  if (architecture == "LlamaForCausalLM" || architecture == "MistralForCausalLM") {
    return Family::llama;
  }
  if (architecture == "Qwen2ForCausalLM") return Family::qwen2;
  if (architecture == "Qwen3ForCausalLM") return Family::qwen3;
  throw UnknownArchitecture(
      fmt::format("{}: unknown architecture '{}'; expected LlamaForCausalLM, MistralForCausalLM, "
                  "Qwen2ForCausalLM or Qwen3ForCausalLM",
                  where, architecture));
}

Rope::Scaling parse_scaling(const std::string& type, const std::string& where) {
  if (type == "default") return Rope::Scaling::none;
  if (type == "linear") return Rope::Scaling::linear;
  if (type == "dynamic") return Rope::Scaling::dynamic_ntk;
  if (type == "llama3") return Rope::Scaling::llama3;
  if (type == "yarn") return Rope::Scaling::yarn;
  fail("{}: unknown rope type '{}'; expected default, linear, dynamic, llama3 or yarn", where,
       type);
}

Rope parse_rope(const Fields& config, std::size_t max_context) {
  Rope rope;
  rope.theta = config.real_or("rope_theta", rope.theta);
  if (const json* divisors = config.find(kFrequencyDivisors)) {
    if (!divisors->is_array())
      fail("{}: '{}' must be an array", config.where(), kFrequencyDivisors);
    for (const json& divisor : *divisors) {
      if (!divisor.is_number() || !(divisor > 0) || !std::isfinite(divisor.get<float>())) {
        fail("{}: '{}' must hold positive numbers", config.where(), kFrequencyDivisors);
      }
      rope.frequency_divisors.push_back(divisor.get<float>());
    }
  }
  const bool version_5 = config.find("rope_parameters") != nullptr;
  const char* key = version_5 ? "rope_parameters" : "rope_scaling";
  if (config.find(key) == nullptr) return rope;
  const Fields fields(*config.find(key), fmt::format("{}: {}", config.where(), key));
  rope.theta = fields.real_or("rope_theta", rope.theta);
  const std::string type = fields.text_or("type", "default");
  rope.scaling = parse_scaling(fields.text_or("rope_type", type.c_str()), fields.where());
  // These would change the result, and no model of our families has them.
  if (fields.real_or("partial_rotary_factor", 1) != 1 || fields.find("mscale") != nullptr ||
      !fields.flag_or("truncate", true)) {
    fail("{}: partial_rotary_factor, mscale and truncate are not supported", fields.where());
  }
  if (rope.scaling == Rope::Scaling::none) return rope;

  rope.original_context = static_cast<double>(max_context);
  if (rope.scaling == Rope::Scaling::llama3 || rope.scaling == Rope::Scaling::yarn) {
    rope.original_context =
        static_cast<double>(fields.size_or("original_max_position_embeddings", max_context));
  }
  const double longer = static_cast<double>(max_context) / rope.original_context;
  const bool has_factor = fields.find("factor") != nullptr;
  if (!has_factor && rope.scaling != Rope::Scaling::yarn) {
    fail("{}: 'factor' is missing", fields.where());
  }
  rope.factor = fields.real_or("factor", longer);
  rope.low_freq_factor = fields.real_or("low_freq_factor", rope.low_freq_factor);
  rope.high_freq_factor = fields.real_or("high_freq_factor", rope.high_freq_factor);
  rope.beta_fast = fields.real_or("beta_fast", rope.beta_fast);
  rope.beta_slow = fields.real_or("beta_slow", rope.beta_slow);
  rope.attention_factor = fields.real_or("attention_factor", rope.attention_factor);
  return rope;
}

/// Mistral: every layer. Qwen: layers from max_window_layers on, and only where it is switched on.
std::size_t parse_window(const Fields& config, const ModelConfig& model) {
  if (model.architecture == "MistralForCausalLM") return config.size_or("sliding_window", 0);
  if (model.family == Family::llama || !config.flag_or("use_sliding_window", false)) return 0;
  const std::size_t window = config.size_or("sliding_window", 4096);
  const double first = config.real_or("max_window_layers", 28);
  if (first >= static_cast<double>(model.layers)) return 0;
  if (first > 0) {
    fail("{}: a sliding window in some layers only (max_window_layers) is not supported",
         config.where());
  }
  return window;
}

bool is_checkpoint(const Fields& config) {
  const json* quantization = config.find("quantization_config");
  if (quantization == nullptr) return false;
  return Fields(*quantization, config.where() + ": quantization_config")
             .text_or("quant_method", "") == "squish";
}

}  // namespace

Architecture read_hf_config(const std::filesystem::path& config_json) {
  const json root = read_json(config_json, kMaxConfig);
  const Fields fields(root, config_json.string());
  Architecture result;
  ModelConfig& config = result.config;
  config.architecture = architecture_name(fields);
  config.family = parse_family(config.architecture, fields.where());
  config.vocab = fields.size("vocab_size");
  config.hidden = fields.size("hidden_size");
  config.intermediate = fields.size("intermediate_size");
  config.layers = fields.size("num_hidden_layers");
  config.heads = fields.size("num_attention_heads");
  config.kv_heads = fields.size_or("num_key_value_heads", config.heads);
  if (fields.find("head_dim") == nullptr && config.hidden % config.heads != 0) {
    fail("{}: hidden_size {} is not a multiple of num_attention_heads {}", fields.where(),
         config.hidden, config.heads);
  }
  const std::size_t head_dim = config.family == Family::qwen3 ? 128 : config.hidden / config.heads;
  config.head_dim = fields.size_or("head_dim", head_dim);
  config.max_context = fields.size("max_position_embeddings");
  config.norm_eps = fields.real_or("rms_norm_eps", 1e-6);
  config.rope = parse_rope(fields, config.max_context);
  config.tied_embeddings = fields.flag_or("tie_word_embeddings", false);
  config.sliding_window = parse_window(fields, config);

  const std::string activation = fields.text_or("hidden_act", "silu");
  if (activation != "silu") {
    fail("{}: hidden_act '{}', expected silu", fields.where(), activation);
  }
  if (fields.flag_or("mlp_bias", false)) fail("{}: mlp_bias is not supported", fields.where());
  if (is_checkpoint(fields)) {
    if (!std::filesystem::exists(config_json.parent_path() / kManifestFile)) {
      fail("{}: not a whole squish checkpoint: {} is missing", config_json.parent_path().string(),
           kManifestFile);
    }
  } else if (fields.find("quantization_config") != nullptr) {
    fail("{}: the weights are already quantised (quantization_config); expected F32, F16 or BF16",
         fields.where());
  }
  const bool bias = fields.flag_or("attention_bias", false);
  result.qkv_bias = bias || config.family == Family::qwen2;
  result.output_bias = bias && config.family != Family::qwen2;
  return result;
}

}  // namespace squish::io
