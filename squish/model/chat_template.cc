#include "squish/model/chat_template.h"

#include <optional>
#include <string_view>

#include "squish/base/error.h"
#include "squish/model/unicode.h"

namespace squish::model {
namespace {

/// Where Jinja text from `begin` on stops being literal: at the quote that the literal was opened
/// with (the character before `begin`), or at a tag where `begin` is outside quotes.
std::size_t literal_end(std::string_view text, std::size_t begin) {
  const char before = begin > 0 ? text[begin - 1] : '\0';
  const bool quoted = before == '\'' || before == '"';
  for (std::size_t i = begin; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (quoted ? text[i] == before : text[i] == '{') {
      return i;
    }
  }
  return text.size();
}

std::string unescaped(std::string_view literal) {
  std::string out;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] == '\\' && i + 1 < literal.size()) {
      ++i;
      out += literal[i] == 'n' ? '\n' : literal[i];
    } else {
      out += literal[i];
    }
  }
  return out;
}

/// The longest known have 20 KB; looking for literals may take quadratic time.
constexpr std::size_t kLargestTemplate = 1 << 17;

/// The whole literal that begins with `start`, at `from` or later.
std::optional<std::string> find_literal(std::string_view text, std::string_view start,
                                        std::size_t from = 0) {
  const std::size_t begin = text.find(start, from);
  if (begin == std::string_view::npos) return {};
  return unescaped(text.substr(begin, literal_end(text, begin) - begin));
}

/// The literal that begins with `start` behind the last condition on add_generation_prompt.
std::optional<std::string> find_generation_prompt(std::string_view text, std::string_view start) {
  const std::size_t condition = text.rfind("add_generation_prompt");
  if (condition == std::string_view::npos) return {};
  return find_literal(text, start, condition);
}

/// What the template says for the system where no message does; empty if nothing.
std::string chatml_default_system(std::string_view text) {
  constexpr std::string_view kStart = "<|im_start|>system", kEnd = "<|im_end|>";
  for (std::size_t at = text.find(kStart); at != std::string_view::npos;
       at = text.find(kStart, at + 1)) {
    const std::string literal = *find_literal(text, kStart, at);
    const std::size_t end = literal.find(kEnd);
    // Others only open the message and put a given content in.
    if (end != std::string::npos && end > kStart.size()) {
      return literal.substr(kStart.size() + 1, end - kStart.size() - 1);
    }
  }
  return {};
}

std::string render_chatml(std::string_view text, const std::vector<ChatMessage>& messages) {
  const auto turn = [](const std::string& role, const std::string& content) {
    return "<|im_start|>" + role + "\n" + content + "<|im_end|>\n";
  };
  std::string prompt;
  const std::string system = chatml_default_system(text);
  if (messages[0].role != "system" && !system.empty()) prompt += turn("system", system);
  const bool drops_thoughts = text.find("</think>") != std::string_view::npos;
  for (const ChatMessage& message : messages) {
    std::string content = message.content;
    // Qwen3 shows the model its earlier answers without the reasoning before them.
    const std::size_t thought = content.rfind("</think>");
    if (drops_thoughts && message.role == "assistant" && thought != std::string::npos) {
      content.erase(0, thought + std::string_view("</think>").size());
      content.erase(0, content.find_first_not_of('\n'));
    }
    prompt += turn(message.role, content);
  }
  return prompt +
         find_generation_prompt(text, "<|im_start|>assistant").value_or("<|im_start|>assistant\n");
}

std::string render_llama3(std::string_view text, const std::vector<ChatMessage>& messages) {
  const auto turn = [](const std::string& role, const std::string& content) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + content + "<|eot_id|>";
  };
  const auto trimmed = [](const std::string& content) {
    return std::string(trim_left(trim_right(content)));
  };
  std::string prompt;
  std::size_t first = 0;
  // Llama 3.1 and later always open with the system, and two dates before what it says. Today's
  // date is the one that the template falls back to, so that a prompt is the same on every day.
  if (const auto knowledge = find_literal(text, "Cutting Knowledge Date: ")) {
    constexpr std::string_view kDate = "date_string = \"";
    std::string date;
    if (const std::size_t at = text.find(kDate); at != std::string_view::npos) {
      const std::size_t begin = at + kDate.size();
      date = text.substr(begin, literal_end(text, begin) - begin);
    }
    const bool given = messages[0].role == "system";
    prompt += turn("system", *knowledge + "Today Date: " + date + "\n\n" +
                                 (given ? trimmed(messages[0].content) : ""));
    first = given ? 1 : 0;
  }
  for (std::size_t i = first; i < messages.size(); ++i) {
    prompt += turn(messages[i].role, trimmed(messages[i].content));
  }
  return prompt + "<|start_header_id|>assistant<|end_header_id|>\n\n";
}

}  // namespace

std::string apply_chat_template(const io::TokenizerData& data,
                                const std::vector<ChatMessage>& messages) {
  const std::string_view text = data.chat_template;
  const auto has = [&](std::string_view part) { return text.find(part) != std::string_view::npos; };
  if (text.empty()) fail("{}: the model has no chat template", data.source);
  if (text.size() > kLargestTemplate) {
    fail("{}: a chat template of {} bytes, expected at most {}", data.source, text.size(),
         kLargestTemplate);
  }
  for (const ChatMessage& message : messages) {
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      fail("a chat message by '{}', expected system, user or assistant", message.role);
    }
  }
  if (messages.empty() || messages.back().role == "assistant") {
    fail("a chat must end with a message to the assistant");
  }
  const std::string bos =
      has("bos_token") && data.bos && *data.bos < data.tokens.size() ? data.tokens[*data.bos] : "";
  if (has("<|im_start|>") && has("<|im_end|>")) return bos + render_chatml(text, messages);
  if (has("<|start_header_id|>") && has("<|eot_id|>")) return bos + render_llama3(text, messages);
  fail("{}: the model's chat template is neither ChatML nor of Llama 3's form", data.source);
}

}  // namespace squish::model
