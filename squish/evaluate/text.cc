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

constexpr const char* kFile = "wiki.test.raw";
constexpr const char* kDigest = "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08";
constexpr std::size_t kMaxBytes = std::size_t{1} << 30;

std::filesystem::path environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::filesystem::path cached_text() {
  std::filesystem::path cache = environment("XDG_CACHE_HOME");
  if (cache.empty()) cache = environment("HOME") / ".cache";
  return cache / "squish/data" / kFile;
}

std::filesystem::path find_text() {
  const auto first_file = [](std::initializer_list<std::filesystem::path> paths) {
    for (const std::filesystem::path& path : paths) {
      std::error_code error;
      if (std::filesystem::is_regular_file(path, error)) return path;
    }
    return std::filesystem::path();
  };
  if (const std::filesystem::path data = environment("SQUISH_DATA"); !data.empty()) {
    if (const auto path = first_file({data, data / kFile}); !path.empty()) return path;
    fail("SQUISH_DATA is {}, expected {} or a directory that holds it", data.string(), kFile);
  }
  const std::filesystem::path shared = std::filesystem::path("../shared/data/wikitext-2") / kFile;
  const auto path = first_file({shared, kSourceDirectory / shared, cached_text()});
  if (!path.empty()) return path;
  fail(
      "perplexity needs WikiText-2's raw test split: run scripts/fetch_text.sh, or put {} into {}, "
      "or name it by --ppl-data or SQUISH_DATA",
      kFile, cached_text().parent_path().string());
}

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == line.npos; }

}  // namespace

Text load_text(const std::filesystem::path& asked) {
  Text text{.path = asked.empty() ? find_text() : asked, .raw = {}, .name = "other"};
  text.raw = read_text(text.path, kMaxBytes);
  if (sha256(text.raw) == kDigest) text.name = "wikitext-2-raw-test";
  return text;
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
