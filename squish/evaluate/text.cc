#include "squish/evaluate/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/version.h"

namespace squish::evaluate {
namespace {

constexpr const char* kTestFile = "wiki.test.raw";

struct KnownText {
  std::string_view digest, name;
};
constexpr KnownText kKnown[] = {
    {"173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08", "wikitext-2-raw-test"},
    {"bb83478e478845a5b8396353e2930f85362120de9720c5b66a243fda18f1a246", "wikitext-2-valid-nounk"}};
constexpr std::size_t kMaxBytes = std::size_t{1} << 30;

std::filesystem::path environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::filesystem::path first_file(const std::vector<std::filesystem::path>& paths) {
  for (const std::filesystem::path& path : paths) {
    std::error_code error;
    if (std::filesystem::is_regular_file(path, error)) return path;
  }
  return {};
}

/// The first of `names` that is in a place for texts; empty if none is.
std::filesystem::path find_shared(std::initializer_list<const char*> names) {
  const std::filesystem::path shared = "../shared/data/wikitext-2";
  for (const auto& folder : {shared, kSourceDirectory / shared, user_cache() / "data"}) {
    for (const char* name : names) {
      if (auto path = first_file({folder / name}); !path.empty()) return path;
    }
  }
  return {};
}

std::filesystem::path find_test_text() {
  if (const std::filesystem::path data = environment("SQUISH_DATA"); !data.empty()) {
    if (const auto path = first_file({data, data / kTestFile}); !path.empty()) return path;
    fail(
        "SQUISH_DATA is {}, expected {} or a directory that holds it; without SQUISH_DATA set, "
        "scripts/fetch_text.sh gets it",
        data.string(), kTestFile);
  }
  if (const auto path = find_shared({kTestFile}); !path.empty()) return path;
  fail(
      "perplexity needs WikiText-2's raw test split: run scripts/fetch_text.sh, or put {} into {}, "
      "or name it by --ppl-data or SQUISH_DATA",
      kTestFile, (user_cache() / "data").string());
}

std::filesystem::path find_valid_text() {
  if (const std::filesystem::path data = environment("SQUISH_DATA"); !data.empty()) {
    // It may also name the test split itself, which nothing is calibrated on.
    const auto path = first_file({data / "wiki.valid.raw", data / "wiki.valid.nounk"});
    if (!path.empty()) return path;
    fail("SQUISH_DATA is {}, expected a directory that holds wiki.valid.raw or wiki.valid.nounk",
         data.string());
  }
  if (auto path = find_shared({"wiki.valid.raw", "wiki.valid.nounk"}); !path.empty()) return path;
  fail(
      "calibration needs a text, by default WikiText-2's valid split: put wiki.valid.raw or "
      "wiki.valid.nounk into {}, or name a text by --text",
      (user_cache() / "data").string());
}

Text load(const std::filesystem::path& path) {
  Text text{.path = path, .raw = read_text(path, kMaxBytes), .name = "other"};
  const std::string digest = sha256(text.raw);
  for (const KnownText& known : kKnown) {
    if (digest == known.digest) text.name = known.name;
  }
  return text;
}

constexpr const char* kBlanks = " \t\r\n";

bool blank(std::string_view line) { return line.find_first_not_of(kBlanks) == line.npos; }

}  // namespace

Text load_text(const std::filesystem::path& asked) {
  return load(asked.empty() ? find_test_text() : asked);
}

Text load_calibration_text(const std::filesystem::path& asked) {
  return load(asked.empty() ? find_valid_text() : asked);
}

Split split_lines(std::string_view raw) {
  std::vector<std::size_t> ends;  // of the lines, newline included
  for (std::size_t at = 0; at < raw.size();) {
    at = std::min(raw.find('\n', at), raw.size() - 1) + 1;
    ends.push_back(at);
  }
  // A text of one line cannot be split.
  const std::size_t lines =
      ends.size() < 2 ? ends.size() : std::max<std::size_t>(1, ends.size() * 85 / 100);
  const std::size_t cut = lines == 0 ? 0 : ends[lines - 1];
  return {raw.substr(0, cut), raw.substr(cut)};
}

std::vector<std::uint64_t> line_hashes(std::string_view raw) {
  constexpr std::size_t kLongEnough = 32;
  std::vector<std::uint64_t> hashes;
  for (std::size_t start = 0; start < raw.size();) {
    const std::size_t end = std::min(raw.find('\n', start), raw.size());
    std::string_view line = raw.substr(start, end - start);
    start = end + 1;
    line.remove_prefix(std::min(line.find_first_not_of(kBlanks), line.size()));
    line = line.substr(0, line.find_last_not_of(kBlanks) + 1);
    if (line.size() >= kLongEnough) {
      hashes.push_back(std::stoull(sha256(line).substr(0, 16), nullptr, 16));
    }
  }
  std::ranges::sort(hashes);
  const auto [first, last] = std::ranges::unique(hashes);
  hashes.erase(first, last);
  return hashes;
}

std::string hugging_face_join(std::string_view raw) {
  std::string joined;
  joined.reserve(raw.size() + raw.size() / 64);
  for (std::size_t start = 0; start < raw.size();) {
    const std::size_t end = std::min(raw.find('\n', start), raw.size() - 1) + 1;
    if (start > 0) joined += "\n\n";
    const std::string_view line = raw.substr(start, end - start);
    if (!blank(line)) joined += line;
    start = end;
  }
  return joined;
}

Protocol parse_protocol(std::string_view name) {
  for (const Protocol protocol : {Protocol::gptq, Protocol::llama_cpp}) {
    if (name == to_string(protocol)) return protocol;
  }
  fail_usage("perplexity protocol '{}': expected gptq or llama.cpp", name);
}

std::string_view to_string(Protocol protocol) {
  return protocol == Protocol::gptq ? "gptq" : "llama.cpp";
}

Passage cut_passage(const Text& text, const model::Tokenizer& tokenizer, std::size_t max_context,
                    const PassageOptions& options) {
  const bool gptq = options.protocol == Protocol::gptq;
  std::size_t ctx = std::min<std::size_t>(gptq ? 2048 : 512, max_context);
  if (options.ctx > max_context) {
    fail_usage("windows of {} tokens: the model takes at most {}", options.ctx, max_context);
  }
  if (options.ctx > 0) ctx = options.ctx;

  const std::string joined = gptq ? hugging_face_join(text.raw) : "";
  const std::string& content = gptq ? joined : text.raw;
  std::vector<model::TokenId> tokens =
      tokenizer.encode(content, /*add_special=*/true, /*parse_special=*/gptq);
  if (options.tokens > 0 && options.tokens < tokens.size()) tokens.resize(options.tokens);

  ctx = std::min(ctx, tokens.size());  // a partial window counts if it is the only one
  const std::size_t first_scored = gptq ? 0 : ctx / 2;
  if (ctx < first_scored + 2) {
    fail("{}: {} tokens in a window, too few to score one", text.path.string(), ctx);
  }
  const std::size_t count = tokens.size() / ctx;
  Passage passage{.label = fmt::format("{}-{}@{}", to_string(options.protocol), ctx, count),
                  .text_name = text.name,
                  .sha256 = sha256(content),
                  .windows = {},
                  .first_scored = first_scored};
  const io::TokenizerData& data = tokenizer.data();
  for (std::size_t i = 0; i < count; ++i) {
    passage.windows.emplace_back(tokens.begin() + i * ctx, tokens.begin() + (i + 1) * ctx);
    if (!gptq && data.add_bos && data.bos) passage.windows.back().front() = *data.bos;
  }
  return passage;
}

}  // namespace squish::evaluate
