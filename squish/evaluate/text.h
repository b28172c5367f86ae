#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "squish/model/tokenizer.h"

/// The text that perplexity is measured on, and its cutting into windows by the two protocols of
/// metrics.md.
namespace squish::evaluate {

struct Text {
  std::filesystem::path path;
  std::string raw;   ///< the file as it is
  std::string name;  ///< "wikitext-2-raw-test", "wikitext-2-valid-nounk" by its digest, or "other"
};

/// The file `asked`; or, where that is empty, WikiText-2's raw test split from $SQUISH_DATA (the
/// file or its directory; nothing else is looked at where that is set), ../shared/data/wikitext-2
/// or the user's cache. An Error says what is missing and how to get it.
Text load_text(const std::filesystem::path& asked);

/// Likewise WikiText-2's valid split, wiki.valid.raw or wiki.valid.nounk.
Text load_calibration_text(const std::filesystem::path& asked);

/// A calibration text by metrics.md's split: the first 85 % of the lines calibrate, the others are
/// held out for every choice that data decides.
struct Split {
  std::string_view calibration, held_out;
};
Split split_lines(std::string_view raw);

/// 64-bit hashes of the lines of at least 32 bytes, blanks at both ends apart, ascending, each
/// once: two texts share lines where they share hashes.
std::vector<std::uint64_t> line_hashes(std::string_view raw);

/// The lines as the Hugging Face data set holds them (a blank line is empty, a line of text keeps
/// its leading space and its newline), joined by "\n\n".
std::string hugging_face_join(std::string_view raw);

enum class Protocol { gptq, llama_cpp };

/// "gptq", "llama.cpp"; UsageError on anything else.
Protocol parse_protocol(std::string_view name);
std::string_view to_string(Protocol protocol);

struct PassageOptions {
  Protocol protocol = Protocol::gptq;
  std::size_t ctx = 0;     ///< tokens in a window; 0: the protocol's, or the model's if smaller
  std::size_t tokens = 0;  ///< the first so many tokens of the text; 0: all
};

/// Windows of equal length. Position i of a window predicts token i + 1; positions from
/// `first_scored` on count, the last one apart.
struct Passage {
  std::string label;              ///< "gptq-2048@40": protocol, window length, windows
  std::string text_name, sha256;  ///< of the text as it was tokenised
  std::vector<std::vector<model::TokenId>> windows;
  std::size_t first_scored = 0;

  std::size_t ctx() const { return windows.front().size(); }
  std::size_t scored_per_window() const { return ctx() - 1 - first_scored; }
  std::size_t scored() const { return windows.size() * scored_per_window(); }
};

/// UsageError if the window is longer than the model takes; Error if the text is too short.
Passage cut_passage(const Text& text, const model::Tokenizer& tokenizer, std::size_t max_context,
                    const PassageOptions& options);

}  // namespace squish::evaluate
