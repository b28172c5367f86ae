#include "squish/model/pretokenizer.h"

#include "squish/base/error.h"
#include "squish/model/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace squish::model {
namespace {

std::string with_unicode_spaces(std::string_view pattern) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      out += pattern[i];
      continue;
    }
    const char escaped = pattern[++i];
    if (escaped == 's') {
      out += "\\p{WSpace}";
    } else if (escaped == 'S') {
      out += "\\P{WSpace}";
    } else {
      out += '\\';
      out += escaped;
    }
  }
  return out;
}

std::string message_of(int error) {
  char message[256] = "";
  pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
  return message;
}

std::shared_ptr<const void> compile(const std::string& pattern, const std::string& source) {
  const std::string rewritten = with_unicode_spaces(pattern);
  int error = 0;
  std::size_t offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.data()), rewritten.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code == nullptr) {
    fail("{}: the pre-tokeniser pattern '{}' does not compile: {}", source, repair_utf8(pattern),
         message_of(error));
  }
  // Where there is no JIT (its return value), pcre2_match() interprets: slower, the same matches.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return {code,
          [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); }};
}

/// What one thread needs to match.
struct MatchState {
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data{
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free};
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context{
      pcre2_match_context_create(nullptr), &pcre2_match_context_free};
  std::unique_ptr<pcre2_jit_stack, decltype(&pcre2_jit_stack_free)> stack{
      pcre2_jit_stack_create(std::size_t{32} << 10, std::size_t{8} << 20, nullptr),
      &pcre2_jit_stack_free};

  MatchState() {
    if (!data || !context) fail("out of memory for the pre-tokeniser");
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

}  // namespace

PreTokenizer::PreTokenizer(const std::vector<std::string>& patterns, std::string source)
    : source_(std::move(source)) {
  for (const std::string& pattern : patterns) patterns_.push_back(compile(pattern, source_));
}

std::vector<std::string_view> PreTokenizer::split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  if (!text.empty()) pieces.push_back(text);
  thread_local MatchState state;
  for (const auto& pattern : patterns_) {
    std::vector<std::string_view> finer;
    for (const std::string_view piece : pieces) {
      std::size_t done = 0;
      for (std::size_t at = 0; at < piece.size();) {
        // The text is known to be valid; without this flag every call would check all of it again.
        const int count = pcre2_match(static_cast<const pcre2_code*>(pattern.get()),
                                      reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(), at,
                                      PCRE2_NO_UTF_CHECK, state.data.get(), state.context.get());
        if (count == PCRE2_ERROR_NOMATCH) break;
        if (count < 0) fail("{}: a pre-tokeniser pattern failed: {}", source_, message_of(count));
        const std::size_t* range = pcre2_get_ovector_pointer(state.data.get());
        const auto [begin, end] = std::pair(range[0], range[1]);
        if (begin < done || end <= begin) {  // an empty match isolates nothing
          at += character_length(piece[at]);
          continue;
        }
        if (begin > done) finer.push_back(piece.substr(done, begin - done));
        finer.push_back(piece.substr(begin, end - begin));
        at = done = end;
      }
      if (done < piece.size()) finer.push_back(piece.substr(done));
    }
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace squish::model
