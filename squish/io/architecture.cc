#include "squish/io/architecture.h"

#include <cmath>
#include <functional>
#include <set>

#include "squish/base/error.h"

namespace squish::io {
namespace {

using Shape = std::vector<std::size_t>;

/// Calls visit(name, shape) for each tensor of the architecture; the visitor may throw to stop, as
/// a hostile config can ask for any number of layers.
void for_each_tensor(const Architecture& architecture,
                     const std::function<void(const std::string&, const Shape&)>& visit) {
  const ModelConfig& c = architecture.config;
  const std::size_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  visit("model.embed_tokens.weight", {c.vocab, c.hidden});
  for (std::size_t i = 0; i < c.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    visit(layer + "input_layernorm.weight", {c.hidden});
    visit(layer + "self_attn.q_proj.weight", {q, c.hidden});
    visit(layer + "self_attn.k_proj.weight", {kv, c.hidden});
    visit(layer + "self_attn.v_proj.weight", {kv, c.hidden});
    visit(layer + "self_attn.o_proj.weight", {c.hidden, q});
    if (architecture.qkv_bias) {
      visit(layer + "self_attn.q_proj.bias", {q});
      visit(layer + "self_attn.k_proj.bias", {kv});
      visit(layer + "self_attn.v_proj.bias", {kv});
    }
    if (architecture.output_bias) visit(layer + "self_attn.o_proj.bias", {c.hidden});
    if (c.family == Family::qwen3) {
      visit(layer + "self_attn.q_norm.weight", {c.head_dim});
      visit(layer + "self_attn.k_norm.weight", {c.head_dim});
    }
    visit(layer + "post_attention_layernorm.weight", {c.hidden});
    visit(layer + "mlp.gate_proj.weight", {c.intermediate, c.hidden});
    visit(layer + "mlp.up_proj.weight", {c.intermediate, c.hidden});
    visit(layer + "mlp.down_proj.weight", {c.hidden, c.intermediate});
  }
  visit("model.norm.weight", {c.hidden});
  if (!c.tied_embeddings) visit("lm_head.weight", {c.vocab, c.hidden});
}

void check_config(const ModelConfig& c, const std::string& path) {
  if (c.heads % c.kv_heads != 0) {
    fail("{}: {} attention heads cannot share {} key-value heads", path, c.heads, c.kv_heads);
  }
  if (c.head_dim % 2 != 0) {
    fail("{}: heads of {} elements, expected an even number for the rotary embedding", path,
         c.head_dim);
  }
  const Rope& rope = c.rope;
  for (const double value : {c.norm_eps, rope.factor}) {
    if (!std::isfinite(value) || value <= 0) {
      fail("{}: norm epsilon and rope factor must be positive numbers", path);
    }
  }
  if (!std::isfinite(rope.theta) || rope.theta <= 1) {
    fail("{}: rope base {}, expected a number above 1", path, rope.theta);
  }
  const auto ascending = [](double low, double high) {
    return low > 0 && high > low && std::isfinite(high);
  };
  if (rope.scaling == Rope::Scaling::llama3 &&
      !ascending(rope.low_freq_factor, rope.high_freq_factor)) {
    fail("{}: rope low_freq_factor {} and high_freq_factor {}, expected 0 < low < high", path,
         rope.low_freq_factor, rope.high_freq_factor);
  }
  if (rope.scaling == Rope::Scaling::yarn) {
    if (!ascending(rope.beta_slow, rope.beta_fast)) {
      fail("{}: rope beta_slow {} and beta_fast {}, expected 0 < slow < fast", path, rope.beta_slow,
           rope.beta_fast);
    }
    if (!std::isfinite(rope.attention_factor) || rope.attention_factor < 0) {
      fail("{}: rope attention factor {}, expected a number from 0 on", path,
           rope.attention_factor);
    }
  }
  if (!rope.frequency_divisors.empty() && rope.frequency_divisors.size() != c.head_dim / 2) {
    fail("{}: {} rope frequency factors, expected {}", path, rope.frequency_divisors.size(),
         c.head_dim / 2);
  }
}

}  // namespace

void check_architecture(const Architecture& architecture, const TensorTable& table,
                        const std::filesystem::path& path) {
  check_config(architecture.config, path.string());
  std::set<std::string_view> unexpected;
  for (const auto& [name, tensor] : table.tensors) unexpected.insert(name);
  for_each_tensor(architecture, [&](const std::string& name, const Shape& shape) {
    if (!table.contains(name)) fail("{}: tensor '{}' is missing", path.string(), name);
    const Tensor& tensor = table.at(name);
    if (tensor.shape != shape) {
      fail("{}: tensor '{}' has shape [{}], expected [{}]", path.string(), name,
           fmt::join(tensor.shape, ", "), fmt::join(shape, ", "));
    }
    unexpected.erase(name);
  });
  if (!unexpected.empty()) {
    fail("{}: tensor '{}' does not belong to the architecture '{}'", path.string(),
         *unexpected.begin(), architecture.config.architecture);
  }
}

double llama3_scale(const Rope& rope, double rotations) {
  if (rotations > rope.high_freq_factor) return 1;
  if (rotations < rope.low_freq_factor) return 1 / rope.factor;
  const double smooth =
      (rotations - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) / rope.factor + smooth;
}

}  // namespace squish::io
