#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/io/writers.h"

/// Two-layer models of every family whose weights are all different, written as a
/// Hugging Face directory and as the GGUF file that llama.cpp's converter makes of it.
namespace squish::io::testing {

struct TinyModel {
  static constexpr std::size_t kVocab = 12, kHidden = 8, kIntermediate = 10, kLayers = 2,
                               kHeads = 2, kKvHeads = 1, kHeadDim = 6;
  struct Weights {
    std::vector<std::size_t> shape;
    std::vector<float> values;
  };

  std::string hf_architecture, gguf_architecture;
  nlohmann::json config;                   // config.json
  std::map<std::string, Weights> weights;  // under Hugging Face's names

  /// "llama", "qwen2" or "qwen3". Qwen2 has biases, Qwen3 q/k norms and tied embeddings.
  explicit TinyModel(const std::string& family) : gguf_architecture(family) {
    hf_architecture = family == "llama"   ? "LlamaForCausalLM"
                      : family == "qwen2" ? "Qwen2ForCausalLM"
                                          : "Qwen3ForCausalLM";
    config = {{"architectures", {hf_architecture}},
              {"vocab_size", kVocab},
              {"hidden_size", kHidden},
              {"intermediate_size", kIntermediate},
              {"num_hidden_layers", kLayers},
              {"num_attention_heads", kHeads},
              {"num_key_value_heads", kKvHeads},
              {"head_dim", kHeadDim},
              {"max_position_embeddings", 64},
              {"rms_norm_eps", 0.125},
              {"rope_theta", 5000.0}};
    add("model.embed_tokens.weight", {kVocab, kHidden});
    add("model.norm.weight", {kHidden});
    for (std::size_t i = 0; i < kLayers; ++i) add_layer(family, fmt::format("model.layers.{}.", i));
    if (family == "qwen3") {
      config["tie_word_embeddings"] = true;
    } else {
      add("lm_head.weight", {kVocab, kHidden});
    }
  }

  void add(const std::string& name, std::vector<std::size_t> shape) {
    std::size_t size = 1;
    for (const std::size_t n : shape) size *= n;
    Weights& w = weights[name];
    w.shape = std::move(shape);
    for (std::size_t i = 0; i < size; ++i) w.values.push_back(static_cast<float>(next_++));
  }

  SafetensorsWriter safetensors() const {
    SafetensorsWriter writer;
    for (const auto& [name, w] : weights) writer.tensor(name, w.shape, floats_as_bytes(w.values));
    return writer;
  }
  /// Fills `directory`.
  void write_hf(const TemporaryDirectory& directory) const {
    directory.write("config.json", config.dump());
    directory.write("model.safetensors", safetensors().build());
  }

  /// The metadata that every file has; tests add to it.
  GgufWriter gguf_metadata() const {
    GgufWriter writer;
    const std::string& a = gguf_architecture;
    writer.text("general.architecture", a)
        .u32(a + ".context_length", 64)
        .u32(a + ".embedding_length", kHidden)
        .u32(a + ".feed_forward_length", kIntermediate)
        .u32(a + ".block_count", kLayers)
        .u32(a + ".attention.head_count", kHeads)
        .u32(a + ".attention.head_count_kv", kKvHeads)
        .u32(a + ".attention.key_length", kHeadDim)
        .u32(a + ".attention.value_length", kHeadDim)
        .u32(a + ".rope.dimension_count", kHeadDim)
        .f32(a + ".attention.layer_norm_rms_epsilon", 0.125f)
        .f32(a + ".rope.freq_base", 5000);
    return writer;
  }
  GgufWriter& add_gguf_tensors(GgufWriter& writer) const {
    for (const auto& [name, w] : weights) {
      const std::vector<std::uint64_t> shape(w.shape.rbegin(), w.shape.rend());
      writer.tensor(gguf_name(name), shape, 0, floats_as_bytes(gguf_values(name, w)));
    }
    return writer;
  }
  std::string gguf() const {
    GgufWriter writer = gguf_metadata();
    return add_gguf_tensors(writer).build();
  }

 private:
  void add_layer(const std::string& family, const std::string& layer) {
    constexpr std::size_t kQ = kHeads * kHeadDim, kKv = kKvHeads * kHeadDim;
    add(layer + "input_layernorm.weight", {kHidden});
    add(layer + "post_attention_layernorm.weight", {kHidden});
    add(layer + "self_attn.q_proj.weight", {kQ, kHidden});
    add(layer + "self_attn.k_proj.weight", {kKv, kHidden});
    add(layer + "self_attn.v_proj.weight", {kKv, kHidden});
    add(layer + "self_attn.o_proj.weight", {kHidden, kQ});
    add(layer + "mlp.gate_proj.weight", {kIntermediate, kHidden});
    add(layer + "mlp.up_proj.weight", {kIntermediate, kHidden});
    add(layer + "mlp.down_proj.weight", {kHidden, kIntermediate});
    if (family == "qwen2") {
      add(layer + "self_attn.q_proj.bias", {kQ});
      add(layer + "self_attn.k_proj.bias", {kKv});
      add(layer + "self_attn.v_proj.bias", {kKv});
    }
    if (family == "qwen3") {
      add(layer + "self_attn.q_norm.weight", {kHeadDim});
      add(layer + "self_attn.k_norm.weight", {kHeadDim});
    }
  }

  static std::string gguf_name(std::string name) {
    static const std::pair<const char*, const char*> kNames[] = {
        {"model.embed_tokens", "token_embd"},
        {"model.norm", "output_norm"},
        {"lm_head", "output"},
        {"model.layers", "blk"},
        {"input_layernorm", "attn_norm"},
        {"post_attention_layernorm", "ffn_norm"},
        {"self_attn.q_proj", "attn_q"},
        {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"},
        {"self_attn.q_norm", "attn_q_norm"},
        {"self_attn.k_norm", "attn_k_norm"},
        {"mlp.gate_proj", "ffn_gate"},
        {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"}};
    for (const auto& [hf, gguf] : kNames) {
      if (const auto at = name.find(hf); at != name.npos) {
        name.replace(at, std::string(hf).size(), gguf);
      }
    }
    return name;
  }

  /// Llama's q and k: rows of each head from [2][kHeadDim / 2] to [kHeadDim / 2][2].
  std::vector<float> gguf_values(const std::string& name, const Weights& w) const {
    const bool rotary = name.find("q_proj") != name.npos || name.find("k_proj") != name.npos;
    if (gguf_architecture != "llama" || !rotary) return w.values;
    const std::size_t cols = w.values.size() / w.shape[0];
    std::vector<float> result;
    for (std::size_t head = 0; head < w.shape[0]; head += kHeadDim) {
      for (std::size_t i = 0; i < kHeadDim / 2; ++i) {
        for (const std::size_t row : {head + i, head + kHeadDim / 2 + i}) {
          result.insert(result.end(), w.values.begin() + row * cols,
                        w.values.begin() + (row + 1) * cols);
        }
      }
    }
    return result;
  }

  int next_ = 1;
};

}  // namespace squish::io::testing
