#pragma once
#include <cstddef>
#include <string>
#include <string_view>

/// The little of Unicode that tokenisation needs. Functions on valid UTF-8 unless they say else.
namespace squish::model {

/// Any bytes to valid UTF-8: each maximal subpart of an ill-formed sequence becomes U+FFFD, as in
/// Rust's String::from_utf8_lossy and Python's errors="replace".
std::string repair_utf8(std::string_view bytes);

/// Length of the longest prefix of any bytes that does not end inside a character: what a stream
/// can print now.
std::size_t printable_length(std::string_view bytes);

/// Bytes of the character that starts with `lead`.
std::size_t character_length(char lead);

/// Normalisation form C.
std::string to_nfc(std::string_view text);

/// Without leading or trailing characters of the property White_Space.
std::string_view trim_left(std::string_view text);
std::string_view trim_right(std::string_view text);

}  // namespace squish::model
