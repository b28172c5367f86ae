#pragma once
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "squish/base/half.h"
#include "squish/base/random.h"
#include "tests/io/writers.h"

namespace squish::test {

/// A Llama of two layers in BF16 with random weights and a tokenizer of single bytes (ids 0 to 255,
/// <|im_start|> 256, <|im_end|> 257, ChatML), as a Hugging Face directory that is removed with it.
class TinyModel {
 public:
  static constexpr std::size_t kVocab = 258, kHidden = 32, kIntermediate = 48, kContext = 96;
  static constexpr std::size_t kLinear = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32);

  /// `weight` replaces the first weight of `replaced`.
  explicit TinyModel(std::uint64_t seed = 1, float weight = 0.01f,
                     const std::string& replaced = "model.layers.1.mlp.down_proj.weight") {
    write_config();
    write_tokenizer();
    write_weights(seed, weight, replaced);
  }

  const std::filesystem::path& path() const { return directory_.path(); }
  std::size_t parameters() const { return parameters_; }

 private:
  using Json = nlohmann::ordered_json;

  void write(const std::string& name, const std::string& content) const {
    directory_.write(name, content);
  }

  void write_config() const {
    write("config.json", Json{{"architectures", {"LlamaForCausalLM"}},
                              {"model_type", "llama"},
                              {"vocab_size", kVocab},
                              {"hidden_size", kHidden},
                              {"intermediate_size", kIntermediate},
                              {"num_hidden_layers", 2},
                              {"num_attention_heads", 4},
                              {"num_key_value_heads", 2},
                              {"max_position_embeddings", kContext},
                              {"rms_norm_eps", 1e-5},
                              {"rope_theta", 10000.0},
                              {"tie_word_embeddings", true}}
                             .dump());
  }

  static std::string utf8(unsigned code) {
    if (code < 0x80) return {static_cast<char>(code)};
    return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
  }

  void write_tokenizer() const {
    // GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and following.
    Json vocab = Json::object();
    for (unsigned byte = 0, next = 256; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
      vocab[utf8(printable ? byte : next++)] = byte;
    }
    Json added = Json::array();
    for (unsigned id = 256; id < kVocab; ++id) {
      added.push_back({{"id", id},
                       {"content", id == 256 ? "<|im_start|>" : "<|im_end|>"},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    }
    write("tokenizer.json",
          Json{{"version", "1.0"},
               {"added_tokens", added},
               {"normalizer", nullptr},
               {"pre_tokenizer",
                {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
               {"decoder", {{"type", "ByteLevel"}}},
               {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}}
              .dump());
    write("tokenizer_config.json",
          Json{{"eos_token", "<|im_end|>"},
               {"chat_template",
                "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
                "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"}}
              .dump());
  }

  void write_weights(std::uint64_t seed, float weight, const std::string& replaced) {
    Json header = Json::object();
    std::string data;
    const auto tensor = [&](const std::string& name, std::size_t rows, std::size_t cols) {
      const CounterRng random(seed, name);
      const std::size_t begin = data.size(), count = rows * (cols == 0 ? 1 : cols);
      for (std::size_t i = 0; i < count; ++i) {
        float x = cols == 0 ? 1.0f : 0.15f * static_cast<float>(random.normal(i));
        if (i == 0 && name == replaced) x = weight;
        const std::uint16_t half = to_bf16(x);
        data.append(reinterpret_cast<const char*>(&half), 2);
      }
      header[name] = {{"dtype", "BF16"},
                      {"shape", cols == 0 ? Json{rows} : Json{rows, cols}},
                      {"data_offsets", {begin, data.size()}}};
      parameters_ += count;
    };
    tensor("model.embed_tokens.weight", kVocab, kHidden);
    tensor("model.norm.weight", kHidden, 0);
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
      tensor(layer + "input_layernorm.weight", kHidden, 0);
      tensor(layer + "post_attention_layernorm.weight", kHidden, 0);
      tensor(layer + "self_attn.q_proj.weight", kHidden, kHidden);
      tensor(layer + "self_attn.k_proj.weight", kHidden / 2, kHidden);
      tensor(layer + "self_attn.v_proj.weight", kHidden / 2, kHidden);
      tensor(layer + "self_attn.o_proj.weight", kHidden, kHidden);
      tensor(layer + "mlp.gate_proj.weight", kIntermediate, kHidden);
      tensor(layer + "mlp.up_proj.weight", kIntermediate, kHidden);
      tensor(layer + "mlp.down_proj.weight", kHidden, kIntermediate);
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const std::uint64_t length = text.size();
    write("model.safetensors",
          std::string(reinterpret_cast<const char*>(&length), 8) + text + data);
  }

  io::testing::TemporaryDirectory directory_;
  std::size_t parameters_ = 0;
};

}  // namespace squish::test
