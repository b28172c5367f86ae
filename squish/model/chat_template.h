#pragma once
#include <string>
#include <vector>

#include "squish/io/model_files.h"

namespace squish::model {

struct ChatMessage {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// The prompt text for the messages by the model's own template, ending where the assistant's
/// answer starts. It includes BOS where the template writes it: encode it with add_special = false.
/// Recognises ChatML (SmolLM2, Qwen2, Qwen2.5, Qwen3) and Llama 3's form, with their default system
/// prompts, read out of the template; Error that says so on any other template or role.
std::string apply_chat_template(const io::TokenizerData& data,
                                const std::vector<ChatMessage>& messages);

}  // namespace squish::model
