#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace squish::model {

/// Cuts text into the words that BPE merges within. Each pattern in turn isolates its matches in
/// the pieces that the one before left; what lies between matches stays a piece (Hugging Face's
/// Split with behaviour Isolated). `\s` means White_Space, as in the engines that the patterns were
/// written for; PCRE2's own would take U+180E as well.
class PreTokenizer {
 public:
  /// Error that starts with `source` if a pattern does not compile.
  PreTokenizer(const std::vector<std::string>& patterns, std::string source);

  /// `text` is valid UTF-8. Error if a pattern exceeds PCRE2's match limit on it.
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  std::string source_;
  std::vector<std::shared_ptr<const void>> patterns_;  // pcre2_code
};

}  // namespace squish::model
