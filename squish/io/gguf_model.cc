// GGUF's names and conventions for the Llama and Qwen families, as llama.cpp's converter writes
// them (convert_hf_to_gguf.py, gguf-py/gguf/tensor_mapping.py).
#include <array>
#include <charconv>
#include <cmath>

#include "squish/base/error.h"
#include "squish/io/architecture.h"

namespace squish::io {
namespace {

constexpr std::string_view kRopeFactors = "rope_freqs.weight";

Family parse_family(const std::string& architecture, const std::string& path) {
  if (architecture == "llama") return Family::llama;
  if (architecture == "qwen2") return Family::qwen2;
  if (architecture == "qwen3") return Family::qwen3;
  fail("{}: unknown architecture '{}'; expected llama, qwen2 or qwen3", path, architecture);
}

/// Metadata of the model's architecture: `key` without its prefix.
class Fields {
 public:
  Fields(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  std::string name(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }
  bool has(std::string_view key) const { return file_.metadata.contains(name(key)); }
  /// 1 to 2^31 - 1, so that products of two such numbers cannot overflow.
  std::size_t size(std::string_view key) const {
    const std::uint64_t value = file_.unsigned_at(name(key));
    if (value < 1 || value > 0x7fffffff) {
      fail("{}: '{}' is {}, expected a positive number below 2^31", file_.path.string(), name(key),
           value);
    }
    return value;
  }
  std::size_t size_or(std::string_view key, std::size_t fallback) const {
    return has(key) ? size(key) : fallback;
  }
  double real(std::string_view key) const {
    if (!has(key)) fail("{}: the metadata lack '{}'", file_.path.string(), name(key));
    return real_or(key, 0);
  }
  double real_or(std::string_view key, double fallback) const {
    return file_.real_or(name(key), fallback);
  }
  std::string text_or(std::string_view key, std::string fallback) const {
    return file_.text_or(name(key), std::move(fallback));
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

std::vector<float> frequency_divisors(const GgufFile& file) {
  if (!file.table.contains(kRopeFactors)) return {};
  const Tensor& tensor = file.table.at(kRopeFactors);
  if (tensor.type != DType::F32 || tensor.shape.size() != 1) {
    fail("{}: tensor '{}' must be a vector of F32", file.path.string(), kRopeFactors);
  }
  std::vector<float> divisors(tensor.elements());
  decode_elements(tensor.type, tensor.bytes, divisors);
  for (const float divisor : divisors) {
    if (!std::isfinite(divisor) || divisor <= 0) {
      fail("{}: tensor '{}' holds {}, expected positive numbers", file.path.string(), kRopeFactors,
           divisor);
    }
  }
  return divisors;
}

Rope parse_rope(const GgufFile& file, const Fields& fields, std::size_t max_context) {
  Rope rope;
  rope.theta = fields.real_or("rope.freq_base", rope.theta);
  rope.frequency_divisors = frequency_divisors(file);
  const double factor =
      fields.real_or("rope.scaling.factor", fields.real_or("rope.scale_linear", 1));
  rope.factor = factor == 0 ? 1 : factor;
  const std::string type = fields.text_or("rope.scaling.type", "linear");
  rope.original_context =
      static_cast<double>(fields.size_or("rope.scaling.original_context_length", max_context));
  if (type == "none" || (type == "linear" && rope.factor == 1)) {
    rope.factor = 1;
  } else if (type == "linear") {
    rope.scaling = Rope::Scaling::linear;
  } else if (type == "yarn") {
    rope.scaling = Rope::Scaling::yarn;
    rope.beta_fast = fields.real_or("rope.scaling.yarn_beta_fast", rope.beta_fast);
    rope.beta_slow = fields.real_or("rope.scaling.yarn_beta_slow", rope.beta_slow);
    // GGUF's factor multiplies the usual one; Hugging Face's replaces it.
    rope.attention_factor = fields.real_or("rope.scaling.attn_factor", 1) *
                            (0.1 * std::log(std::max(rope.factor, 1.0)) + 1);
  } else {
    fail("{}: rope scaling of type '{}', expected none, linear or yarn", file.path.string(), type);
  }
  return rope;
}

struct NamePair {
  std::string_view gguf, hf;
};

constexpr std::array<NamePair, 3> kGlobalNames = {
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};
constexpr std::array<NamePair, 11> kLayerNames = {{{"attn_norm", "input_layernorm"},
                                                   {"attn_q", "self_attn.q_proj"},
                                                   {"attn_k", "self_attn.k_proj"},
                                                   {"attn_v", "self_attn.v_proj"},
                                                   {"attn_output", "self_attn.o_proj"},
                                                   {"attn_q_norm", "self_attn.q_norm"},
                                                   {"attn_k_norm", "self_attn.k_norm"},
                                                   {"ffn_norm", "post_attention_layernorm"},
                                                   {"ffn_gate", "mlp.gate_proj"},
                                                   {"ffn_up", "mlp.up_proj"},
                                                   {"ffn_down", "mlp.down_proj"}}};

template <std::size_t N>
std::string_view translate(const std::array<NamePair, N>& names, std::string_view gguf) {
  for (const NamePair& pair : names) {
    if (pair.gguf == gguf) return pair.hf;
  }
  return {};
}

bool is_query_or_key(std::string_view hf) {
  return hf.find(".q_proj.") != hf.npos || hf.find(".k_proj.") != hf.npos;
}

}  // namespace

std::string hf_name(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == name.npos) return std::string(name);
  const std::string_view stem = name.substr(0, dot), suffix = name.substr(dot);
  if (const auto hf = translate(kGlobalNames, stem); !hf.empty())
    return fmt::format("{}{}", hf, suffix);
  if (!stem.starts_with("blk.")) return std::string(name);
  const std::string_view rest = stem.substr(4);
  const std::size_t next = rest.find('.');
  if (next == rest.npos) return std::string(name);
  const auto hf = translate(kLayerNames, rest.substr(next + 1));
  if (hf.empty()) return std::string(name);
  return fmt::format("model.layers.{}.{}{}", rest.substr(0, next), hf, suffix);
}

Architecture read_gguf_architecture(const GgufFile& file) {
  const std::string path = file.path.string();
  if (const auto parts = file.unsigned_or("split.count", 1); parts > 1) {
    fail("{}: one of {} parts of a split GGUF; join them with llama.cpp's gguf-split --merge first",
         path, parts);
  }
  Architecture result;
  ModelConfig& config = result.config;
  config.architecture = file.text_at("general.architecture");
  config.family = parse_family(config.architecture, path);
  const Fields fields(file, config.architecture);
  config.hidden = fields.size("embedding_length");
  config.intermediate = fields.size("feed_forward_length");
  config.layers = fields.size("block_count");
  config.heads = fields.size("attention.head_count");
  config.kv_heads = fields.size_or("attention.head_count_kv", config.heads);
  if (!fields.has("attention.key_length") && config.hidden % config.heads != 0) {
    fail("{}: '{}' {} is not a multiple of '{}' {}", path, fields.name("embedding_length"),
         config.hidden, fields.name("attention.head_count"), config.heads);
  }
  config.head_dim = fields.size_or("attention.key_length", config.hidden / config.heads);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    if (const std::size_t size = fields.size_or(key, config.head_dim); size != config.head_dim) {
      fail("{}: '{}' is {}, expected {} as the heads have", path, fields.name(key), size,
           config.head_dim);
    }
  }
  config.max_context = fields.size("context_length");
  config.norm_eps = fields.real("attention.layer_norm_rms_epsilon");
  config.rope = parse_rope(file, fields, config.max_context);
  config.sliding_window = fields.size_or("attention.sliding_window", 0);
  config.tied_embeddings = !file.table.contains("output.weight");
  const Tensor& embedding = file.table.at("token_embd.weight");
  config.vocab = embedding.rows();
  result.qkv_bias = file.table.contains("blk.0.attn_q.bias");
  result.output_bias = file.table.contains("blk.0.attn_output.bias");
  return result;
}

void mark_interleaved_rows(GgufFile& file) {
  if (file.text_or("general.architecture", "") != "llama") return;
  const std::size_t head_dim = read_gguf_architecture(file).config.head_dim;
  for (auto& [name, tensor] : file.table.tensors) {
    if (is_query_or_key(hf_name(name)) && tensor.rows() % head_dim == 0) {
      tensor.interleaved_head_rows = head_dim;
    }
  }
}

TensorTable hf_named_tensors(const GgufFile& file, const ModelConfig& config) {
  TensorTable table;
  table.files = file.table.files;
  for (const auto& [name, tensor] : file.table.tensors) {
    if (name == kRopeFactors) continue;
    Tensor renamed = tensor;
    renamed.name = hf_name(name);
    if (config.family == Family::llama && is_query_or_key(renamed.name)) {
      renamed.interleaved_head_rows = config.head_dim;
    }
    if (table.contains(renamed.name)) {
      fail("{}: tensor '{}' occurs under two names", file.path.string(), renamed.name);
    }
    table.tensors.emplace(renamed.name, std::move(renamed));
  }
  return table;
}

}  // namespace squish::io
