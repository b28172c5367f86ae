#include "squish/model/chat_template.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "squish/base/error.h"

namespace squish::model {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kData = std::string(SQUISH_TEST_DATA) + "/chat/";

io::TokenizerData with_template(const std::string& text) {
  io::TokenizerData data;
  data.source = "tokenizer.json";
  data.tokens = {"<bos>"};
  data.bos = 0;
  data.chat_template = text;
  return data;
}

TEST(ChatTemplate, RefusesOneOfAbsurdLength) {
  std::string text;
  while (text.size() < (1 << 18)) text += "'<|im_start|>system";
  try {
    apply_chat_template(with_template(text + "<|im_end|>"), {{"user", "hi"}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json: a chat template of "));
  }
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const json golden = json::parse(std::ifstream(kData + "golden.json"));  // chat_template.py
  ASSERT_EQ(golden.size(), 28);
  for (const json& item : golden) {
    std::stringstream text;
    text << std::ifstream(kData + item["template"].get<std::string>()).rdbuf();
    std::vector<ChatMessage> messages;
    for (const json& m : item["messages"]) messages.push_back({m["role"], m["content"]});
    EXPECT_EQ(apply_chat_template(with_template(text.str()), messages), item["text"])
        << item["template"];
  }
}

TEST(ChatTemplate, SaysWhatItCannotRender) {
  const std::vector<ChatMessage> hello = {{"user", "hello"}};
  const auto error = [&](const std::string& text, const std::vector<ChatMessage>& messages) {
    try {
      return "no error: " + apply_chat_template(with_template(text), messages);
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  const std::string chatml = "{{ '<|im_start|>' + role + '<|im_end|>' }}";
  EXPECT_THAT(error("", hello), HasSubstr("tokenizer.json: the model has no chat template"));
  EXPECT_THAT(error("{{ '[INST] ' + content }}", hello), HasSubstr("neither ChatML nor"));
  EXPECT_THAT(error(chatml, {}), HasSubstr("must end with a message to the assistant"));
  EXPECT_THAT(error(chatml, {{"assistant", "hi"}}), HasSubstr("must end with a message"));
  EXPECT_THAT(error(chatml, {{"tool", "4"}}), HasSubstr("by 'tool', expected system, user or"));
}

TEST(ChatTemplate, SurvivesTemplatesThatEndEarly) {
  for (const std::string name : {"qwen2.5.jinja", "llama3.1.jinja", "smollm2.jinja"}) {
    std::stringstream text;
    text << std::ifstream(kData + name).rdbuf();
    for (std::size_t length = 0; length < text.str().size(); ++length) {
      try {
        const std::string prompt =
            apply_chat_template(with_template(text.str().substr(0, length)), {{"user", "hello"}});
        EXPECT_THAT(prompt, HasSubstr("hello"));
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace
}  // namespace squish::model
