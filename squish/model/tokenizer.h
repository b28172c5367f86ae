#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "squish/io/model_files.h"

namespace squish::model {

using TokenId = std::uint32_t;

/// Byte-level BPE (GPT-2, SmolLM, Llama 3, Qwen2) and SentencePiece-style BPE with byte fallback
/// (Llama 2, Mistral, TinyLlama). Gives the same ids as Hugging Face `tokenizers`. Safe to use from
/// several threads.
class Tokenizer {
 public:
  /// Error if the data is inconsistent (a merge of unknown tokens, a pattern that does not
  /// compile).
  explicit Tokenizer(const io::TokenizerData& data);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  /// `text` is UTF-8; invalid bytes count as U+FFFD, as in Hugging Face. `add_special` adds BOS/EOS
  /// where the model's tokenizer does. `parse_special` recognises control tokens written out; other
  /// added tokens are always recognised.
  std::vector<TokenId> encode(std::string_view text, bool add_special = true,
                              bool parse_special = true) const;

  /// The text that encode() gives these ids for, byte for byte: what SentencePiece's space prefix
  /// added is taken off again (Metaspace adds none to text that starts with a space and loses that
  /// space, as in Hugging Face). Control tokens are left out unless `with_special`; an id beyond
  /// the vocabulary (models pad theirs) stands for nothing.
  std::string decode(std::span<const TokenId> ids, bool with_special = false) const;

  /// The bytes that `id` adds after other tokens; for streams, which hold an incomplete character
  /// back (printable_length() in unicode.h). Empty for a control token.
  std::string_view piece(TokenId id) const;

  std::size_t size() const;
  const io::TokenizerData& data() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace squish::model
