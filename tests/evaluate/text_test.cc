#include "squish/evaluate/text.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::evaluate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(HuggingFaceJoin, TurnsLinesIntoRowsAndJoinsThem) {
  // Rows: "", " = A = \n", "", " text\n".
  EXPECT_EQ(hugging_face_join(" \n = A = \n \n text\n"), "\n\n = A = \n\n\n\n\n text\n");
  EXPECT_EQ(hugging_face_join(" no newline at the end"), " no newline at the end");
  EXPECT_EQ(hugging_face_join("a\nb"), "a\n\n\nb");
  EXPECT_EQ(hugging_face_join(""), "");
}

// metrics.md quotes size and digest of the joined text.
TEST(HuggingFaceJoin, OfWikiText2HasThePublishedDigest) {
  Text text;
  try {
    text = load_text("");
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  if (text.name != "wikitext-2-raw-test") GTEST_SKIP() << text.path << " is another text";
  EXPECT_EQ(text.raw.size(), 1290590u);
  const std::string joined = hugging_face_join(text.raw);
  EXPECT_EQ(joined.size(), 1296370u);
  EXPECT_EQ(sha256(joined), "696cca6b65a171b0a358a4be6732cdfdf2dd6164a32e20fd70e3c13fc4dfae83");
}

TEST(LoadText, NamesWhatIsNotWikiTextOther) {
  const test::TinyModel model;
  const Text text = load_text(model.path() / "config.json");
  EXPECT_EQ(text.name, "other");
  EXPECT_THAT([] { load_text("/nonexistent/text"); },
              ThrowsMessage<Error>(HasSubstr("/nonexistent/text")));
}

TEST(LoadText, FindsTheTextThroughTheEnvironment) {
  const test::TinyModel directory;
  std::ofstream(directory.path() / "wiki.test.raw") << "hello";
  ASSERT_EQ(::setenv("SQUISH_DATA", directory.path().c_str(), 1), 0);
  EXPECT_EQ(load_text("").raw, "hello");
  ::setenv("SQUISH_DATA", (directory.path() / "wiki.test.raw").c_str(), 1);
  EXPECT_EQ(load_text("").raw, "hello");
  ::setenv("SQUISH_DATA", "/nonexistent", 1);
  EXPECT_THAT([] { load_text(""); }, ThrowsMessage<Error>(HasSubstr("/nonexistent")));
  ::unsetenv("SQUISH_DATA");
}

TEST(SplitLines, GivesTheFirst85PercentOfTheLines) {
  std::string text;
  for (int i = 0; i < 20; ++i) text += std::to_string(i) + "\n";
  EXPECT_TRUE(split_lines(text).calibration.ends_with("\n16\n"));
  EXPECT_EQ(split_lines(text).held_out, "17\n18\n19\n");
  EXPECT_EQ(split_lines("a\nb").calibration, "a\n");
  EXPECT_EQ(split_lines("a\nb").held_out, "b");
  EXPECT_EQ(split_lines("a").calibration, "a");
  EXPECT_EQ(split_lines("").calibration, "");
}

TEST(LineHashes, AreOfTheLongerLinesWhateverTheBlanksAround) {
  const std::string a = "a line of more than thirty-two bytes", b = "another " + a;
  EXPECT_EQ(line_hashes(a + "\n" + b + "\nshort\n\n" + a).size(), 2u);
  EXPECT_EQ(line_hashes("  " + a + " \r\n"), line_hashes(a));
  EXPECT_NE(line_hashes(b), line_hashes(a));
  // sha256(a) begins so.
  EXPECT_EQ(line_hashes(a)[0], std::stoull(sha256(a).substr(0, 16), nullptr, 16));
  EXPECT_TRUE(line_hashes("").empty());
}

TEST(Protocol, HasTwoNames) {
  EXPECT_EQ(parse_protocol("gptq"), Protocol::gptq);
  EXPECT_EQ(parse_protocol("llama.cpp"), Protocol::llama_cpp);
  EXPECT_THROW(parse_protocol("hf"), UsageError);
}

class CutPassage : public ::testing::Test {
 protected:
  /// Tokens of the tiny model are bytes.
  Passage cut(const std::string& raw, const PassageOptions& options) const {
    return cut_passage({.path = "text", .raw = raw, .name = "other"}, tokenizer_,
                       test::TinyModel::kContext, options);
  }

  test::TinyModel directory_;
  io::TokenizerData data_ = io::open_model(directory_.path()).tokenizer;
  model::Tokenizer tokenizer_{data_};
};

TEST_F(CutPassage, GptqScoresAllButTheFirstTokenOfWholeWindowsOfTheJoinedText) {
  const Passage passage = cut("ab\ncdefghi", {.ctx = 4});  // "ab\n" "\n\n" "cdefghi": 12 tokens
  EXPECT_EQ(passage.label, "gptq-4@3");
  EXPECT_THAT(passage.windows,
              ElementsAre(ElementsAre('a', 'b', '\n', '\n'), ElementsAre('\n', 'c', 'd', 'e'),
                          ElementsAre('f', 'g', 'h', 'i')));
  EXPECT_EQ(passage.first_scored, 0u);
  EXPECT_EQ(passage.scored_per_window(), 3u);
  EXPECT_EQ(passage.scored(), 9u);
  EXPECT_EQ(passage.sha256, sha256(std::string_view("ab\n\n\ncdefghi")));
  EXPECT_EQ(passage.text_name, "other");
}

TEST_F(CutPassage, APartialWindowIsDroppedUnlessItIsTheOnlyOne) {
  EXPECT_EQ(cut("abcdefghij", {.ctx = 4}).label, "gptq-4@2");
  EXPECT_EQ(cut("abcdefghij", {.ctx = 64}).label, "gptq-10@1");
  EXPECT_EQ(cut("abcdefghij", {.ctx = 4, .tokens = 9}).label, "gptq-4@2");
  EXPECT_EQ(cut("abcdefghij", {.ctx = 4, .tokens = 4}).label, "gptq-4@1");
  EXPECT_EQ(cut(std::string(200, 'x'), {}).label, "gptq-96@2");  // the model's maximum
}

TEST_F(CutPassage, LlamaCppScoresTheSecondHalfOfTheRawText) {
  const Passage passage = cut("ab\ncdefghijkl", {.protocol = Protocol::llama_cpp, .ctx = 6});
  EXPECT_EQ(passage.label, "llama.cpp-6@2");
  EXPECT_THAT(passage.windows[0], ElementsAre('a', 'b', '\n', 'c', 'd', 'e'));
  // llama.cpp scores tokens n_ctx/2 + 1 to n_ctx - 1: here 4 and 5.
  EXPECT_EQ(passage.first_scored, 3u);
  EXPECT_EQ(passage.scored_per_window(), 2u);
}

TEST_F(CutPassage, LlamaCppPutsBosAtTheStartOfEachWindow) {
  data_.add_bos = true;
  data_.bos = 256;
  const model::Tokenizer tokenizer(data_);
  const Text text{.path = "text", .raw = "abcdefg", .name = "other"};
  const Passage llama =
      cut_passage(text, tokenizer, 96, {.protocol = Protocol::llama_cpp, .ctx = 4});
  EXPECT_THAT(llama.windows,
              ElementsAre(ElementsAre(256, 'a', 'b', 'c'), ElementsAre(256, 'e', 'f', 'g')));
  const Passage gptq = cut_passage(text, tokenizer, 96, {.ctx = 4});
  EXPECT_THAT(gptq.windows,
              ElementsAre(ElementsAre(256, 'a', 'b', 'c'), ElementsAre('d', 'e', 'f', 'g')));
}

TEST_F(CutPassage, SaysWhatIsTooLongOrTooShort) {
  EXPECT_THROW(cut("abcdef", {.ctx = 97}), UsageError);
  EXPECT_THAT([&] { cut("a", {}); }, ThrowsMessage<Error>(HasSubstr("too few")));
  EXPECT_THROW(cut("", {}), Error);
  EXPECT_THROW(cut("ab", {.protocol = Protocol::llama_cpp}), Error);
  EXPECT_EQ(cut("abc", {.protocol = Protocol::llama_cpp}).scored(), 1u);
}

}  // namespace
}  // namespace squish::evaluate
