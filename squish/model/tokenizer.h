#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "squish/io/model_files.h"

namespace squish::model {

using TokenId = std::uint32_t;

/// Byte-level BPE (GPT-2, SmolLM, Llama 3, Qwen2) and SentencePiece-style BPE with byte fallback
/// (Llama 2, Mistral, TinyLlama). Gives the same ids as Hugging Face `tokenizers`.
class Tokenizer {
 public:
  /// Error if the data is inconsistent (a merge of unknown tokens, a pattern that does not
  /// compile).
  explicit Tokenizer(const io::TokenizerData& data);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  /// `text` is UTF-8; invalid bytes count as U+FFFD, as in Hugging Face. `add_special` adds BOS/EOS
  /// where the model's tokenizer does. `parse_special` recognises special tokens written out.
  std::vector<TokenId> encode(std::string_view text, bool add_special = true,
                              bool parse_special = true) const;

  /// The bytes that the ids stand for; control tokens are left out unless `with_special`. A prefix
  /// of a multi-byte character is returned as it is: callers that stream hold it back.
  std::string decode(std::span<const TokenId> ids, bool with_special = false) const;

  std::size_t size() const;
  const io::TokenizerData& data() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct ChatMessage {
  std::string role, content;
};

/// The prompt text for the messages by the model's own template, ending where the assistant's
/// answer starts. Recognises ChatML (SmolLM2, Qwen) and Llama 3's form, with their default system
/// prompts; Error that says so on any other template.
std::string apply_chat_template(const io::TokenizerData& data,
                                const std::vector<ChatMessage>& messages);

}  // namespace squish::model
