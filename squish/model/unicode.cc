#include "squish/model/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "squish/base/error.h"

namespace squish::model {
namespace {

constexpr std::array<std::string_view, 25> kWhiteSpace = {
    "\t",           "\n",           "\v",           "\f",           "\r",           " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82",
    "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x87", "\xE2\x80\x88",
    "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F",
    "\xE3\x80\x80"};

/// What stands at the start of `bytes` (not empty): `length` bytes that are a whole character, an
/// ill-formed maximal subpart, or the cut-off start of a character. Unicode 15, table 3-7.
struct Sequence {
  std::size_t length;
  enum { whole, ill_formed, cut_off } state;
};

Sequence next_sequence(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, Sequence::whole};
  const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                             : lead >= 0xE0 && lead <= 0xEF ? 3
                             : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                            : 0;
  if (length == 0) return {1, Sequence::ill_formed};
  // The second byte's range shuts out overlong forms, surrogates and what is above U+10FFFF.
  unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {i, Sequence::cut_off};
    if (byte(i) < low || byte(i) > high) return {i, Sequence::ill_formed};
    low = 0x80;
    high = 0xBF;
  }
  return {length, Sequence::whole};
}

}  // namespace

std::string repair_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Sequence sequence = next_sequence(bytes);
    text += sequence.state == Sequence::whole ? bytes.substr(0, sequence.length) : "\xEF\xBF\xBD";
    bytes.remove_prefix(sequence.length);
  }
  return text;
}

std::size_t printable_length(std::string_view bytes) {
  // A cut-off character is at most three bytes.
  for (std::size_t tail = 1; tail <= std::min<std::size_t>(3, bytes.size()); ++tail) {
    const Sequence last = next_sequence(bytes.substr(bytes.size() - tail));
    if (last.state == Sequence::cut_off && last.length == tail) return bytes.size() - tail;
  }
  return bytes.size();
}

std::size_t character_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

std::string to_nfc(std::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  if (length < 0) fail("cannot normalise the text to NFC: {}", utf8proc_errmsg(length));
  return {reinterpret_cast<const char*>(composed), static_cast<std::size_t>(length)};
}

std::string_view trim_left(std::string_view text) {
  for (;;) {
    const auto space = std::find_if(kWhiteSpace.begin(), kWhiteSpace.end(),
                                    [&](std::string_view s) { return text.starts_with(s); });
    if (space == kWhiteSpace.end()) return text;
    text.remove_prefix(space->size());
  }
}

std::string_view trim_right(std::string_view text) {
  for (;;) {
    const auto space = std::find_if(kWhiteSpace.begin(), kWhiteSpace.end(),
                                    [&](std::string_view s) { return text.ends_with(s); });
    if (space == kWhiteSpace.end()) return text;
    text.remove_suffix(space->size());
  }
}

}  // namespace squish::model
