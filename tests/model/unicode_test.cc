#include "squish/model/unicode.h"

#include <gtest/gtest.h>

namespace squish::model {
namespace {

const std::string kBad = "\uFFFD";

TEST(Unicode, RepairsAsUnicodeTables3To8To11Do) {
  // The standard's own examples of maximal subparts (chapter 3); "?" stands for U+FFFD here.
  const auto repaired = [](std::string_view bytes) {
    const std::string text = repair_utf8(bytes);
    std::string out;
    for (std::size_t i = 0; i < text.size(); i += character_length(text[i])) {
      out += text.compare(i, kBad.size(), kBad) == 0 ? '?' : text[i];
    }
    return out;
  };
  EXPECT_EQ(repaired("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"), "a???b?c??d");
  EXPECT_EQ(repaired("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "????????A");
  EXPECT_EQ(repaired("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), "????????A");
  EXPECT_EQ(repaired("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "?????A??B");
  EXPECT_EQ(repaired("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "????A");
}

std::string encoded(char32_t c) {
  const int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;  // bytes after the first
  constexpr unsigned kLead[] = {0, 0xC0, 0xE0, 0xF0};
  std::string text;
  text += static_cast<char>(kLead[more] | c >> (6 * more));
  for (int i = more - 1; i >= 0; --i) text += static_cast<char>(0x80 | (c >> (6 * i) & 63));
  return text;
}

TEST(Unicode, KeepsEveryCharacter) {
  for (char32_t c = 1; c <= 0x10FFFF; c += c < 0x10000 ? 1 : 77) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string text = encoded(c);
    ASSERT_EQ(repair_utf8(text), text);
    ASSERT_EQ(character_length(text[0]), text.size());
    ASSERT_EQ(printable_length(text), text.size());
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(printable_length(std::string("é").append(text, 0, cut)), 2);
      ASSERT_EQ(repair_utf8(text.substr(0, cut)), kBad);
    }
  }
}

TEST(Unicode, PrintsWhatCanNeverBecomeACharacter) {
  EXPECT_EQ(printable_length(""), 0);
  EXPECT_EQ(printable_length("a\xFF"), 2);
  EXPECT_EQ(printable_length("a\x80"), 2);
  EXPECT_EQ(printable_length("\xE2\x28"), 2);
  EXPECT_EQ(printable_length("\xED\xA0"), 2);  // half a surrogate
}

TEST(Unicode, ComposesToNfc) {
  EXPECT_EQ(to_nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(to_nfc("s\u0307\u0323"), "\u1E69");         // canonical order first
  EXPECT_EQ(to_nfc("\u1100\u1161\u11A8"), "\uAC01");    // Hangul
  EXPECT_EQ(to_nfc("\u212B \uFB01"), "\u00C5 \uFB01");  // no compatibility mapping
  EXPECT_EQ(to_nfc(std::string("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(to_nfc(""), "");
}

TEST(Unicode, TrimsWhiteSpaceOnly) {
  EXPECT_EQ(trim_left(" \t\u00A0\u3000\u2028 a "), "a ");
  EXPECT_EQ(trim_right(" a \r\n\u0085\u2009"), " a");
  EXPECT_EQ(trim_left("\u200Ba"), "\u200Ba");   // not White_Space: zero width space,
  EXPECT_EQ(trim_right("a\u180E"), "a\u180E");  // Mongolian vowel separator
  EXPECT_EQ(trim_left(" \n "), "");
}

}  // namespace
}  // namespace squish::model
