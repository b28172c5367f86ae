#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "squish/base/error.h"
#include "squish/io/tensor.h"

/// A model on disk, of whatever container, as plain data under Hugging Face's names. Hostile input
/// stops here: what comes out is complete and consistent for its architecture.
namespace squish::io {

enum class Family { llama, qwen2, qwen3 };  // llama: Llama 2/3, SmolLM2, TinyLlama, Mistral
std::string_view to_string(Family family);

/// Rotary embedding. Scaling variants as in Hugging Face `rope_scaling`.
struct Rope {
  enum class Scaling { none, linear, dynamic_ntk, llama3, yarn };
  double theta = 10000;
  Scaling scaling = Scaling::none;
  double factor = 1;                                           // linear, llama3, yarn, dynamic
  double low_freq_factor = 1, high_freq_factor = 4;            // llama3
  double original_context = 0;                                 // llama3, yarn, dynamic
  double beta_fast = 32, beta_slow = 1, attention_factor = 0;  // yarn; 0: 0.1 ln(factor) + 1
  /// Explicit divisors of the frequencies, head_dim / 2 of them (GGUF `rope_freqs.weight`); wins.
  std::vector<float> frequency_divisors;
};
/// What Llama 3's scaling multiplies a frequency by that turns `rotations` times within the
/// original context: long wavelengths are stretched by the factor, short ones kept, others in
/// between.
double llama3_scale(const Rope& rope, double rotations);

struct ModelConfig {
  Family family = Family::llama;
  std::string architecture;  ///< as the files call it: "LlamaForCausalLM", "qwen2"
  std::size_t vocab = 0, hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0,
              head_dim = 0, max_context = 0;
  double norm_eps = 1e-5;
  Rope rope;
  bool tied_embeddings = false;
  /// Mistral-style window over past tokens (0: none).
  std::size_t sliding_window = 0;
};

/// What a tokenizer needs, from tokenizer.json or GGUF metadata.
struct TokenizerData {
  enum class Kind { none, byte_level_bpe, sentencepiece_bpe };
  Kind kind = Kind::none;
  std::string source;  ///< the file it came from, for messages
  /// Token texts by id, in the vocabulary's own alphabet (byte-level: GPT-2's printable bytes;
  /// SentencePiece: U+2581 for space, <0xXX> for bytes).
  std::vector<std::string> tokens;
  /// Byte-level and tokenizer.json BPE: merges in order of rank, each a pair of token texts.
  std::vector<std::pair<std::string, std::string>> merges;
  /// SentencePiece in GGUF: no merges; any two neighbours that form a token may merge, best score
  /// first.
  std::vector<float> scores;
  /// Pre-tokeniser patterns (Perl syntax), applied one after the other, each isolating its matches;
  /// byte-level only. `digits` splits (SmolLM) come as patterns of their own.
  std::vector<std::string> patterns;
  struct Special {
    std::uint32_t id;
    std::string text;  ///< literal text that is matched before anything else
    bool control;      ///< skipped when decoding for people
    bool strip_left = false, strip_right = false;
  };
  std::vector<Special> special;
  std::optional<std::uint32_t> bos, eos, unknown;
  std::vector<std::uint32_t>
      stop;  ///< ids that end a generation (eos, <|im_end|>, <|eot_id|>, ...)
  bool add_bos = false, add_eos = false;
  /// SentencePiece: which stretches of text between special tokens get a U+2581 in front. The last
  /// two (Hugging Face's Metaspace) leave alone what starts with a space already.
  enum class SpacePrefix { none, always, unless_spaced, first_unless_spaced };
  SpacePrefix space_prefix = SpacePrefix::none;
  bool split_at_spaces = false;  ///< SentencePiece: every U+2581 starts a word that merges alone
  bool nfc = false;              ///< Qwen's tokenizer.json normalises to NFC
  bool ignore_merges = false;    ///< Llama 3: a piece that is a token needs no merging
  std::string chat_template;     ///< Jinja, as stored; empty if none
};

struct ModelFiles {
  std::filesystem::path path;
  std::string container;  ///< "gguf", "safetensors", "squish"
  std::string spec;       ///< of a checkpoint: what its linear layers were compressed by, in full
  /// Of a checkpoint: compressed by the moments of its inputs as well; one layer behind another.
  bool calibrated = false, sequential = false;
  ModelConfig config;
  TokenizerData tokenizer;
  /// Tensors under Hugging Face names: model.embed_tokens.weight, model.norm.weight,
  /// lm_head.weight (absent when tied), model.layers.N.{self_attn.{q,k,v,o}_proj,mlp.{gate,up,down}
  /// _proj}.{weight,bias}, .self_attn.{q,k}_norm.weight, .input_layernorm.weight,
  /// .post_attention_layernorm.weight. Shapes agree with `config`.
  TensorTable table;
  /// The source holds quantised blocks; metrics.md wants every table to say so.
  bool source_quantized = false;
  std::uint64_t file_bytes = 0;
};

/// make(), whose errors get the path of the model before them.
template <class Make>
auto naming_file(const ModelFiles& files, const Make& make) {
  try {
    return make();
  } catch (const Error& error) {
    fail("{}: {}", files.path.string(), error.what());
  }
}

/// A Hugging Face directory, a .gguf file or a checkpoint (checkpoint.h). Errors: a sentence that
/// names the file and what was expected (unknown architecture, missing tensor, wrong shape, unknown
/// type, ...).
ModelFiles open_model(const std::filesystem::path& path);

/// For `squish inspect`: as open_model, but a model of an unknown architecture or without a
/// tokenizer is still opened, under the file's own tensor names.
ModelFiles open_any_model(const std::filesystem::path& path, std::string& what_is_unknown);

/// For what works on tensors alone: as open_model, but a Hugging Face directory or a checkpoint of
/// an architecture that squish does not know is opened as well, without configuration and
/// tokenizer; `what_is_unknown` is then a sentence, else empty.
ModelFiles open_tensors(const std::filesystem::path& path, std::string& what_is_unknown);

/// The linear layers of the transformer blocks, in order: the tensors that get quantised.
std::vector<std::string> linear_names(const ModelConfig& config);

}  // namespace squish::io
