#include "squish/model/tokenizer.h"

#include <array>
#include <cmath>
#include <deque>
#include <optional>
#include <unordered_map>

#include "squish/base/error.h"
#include "squish/model/bpe.h"
#include "squish/model/pretokenizer.h"
#include "squish/model/unicode.h"

namespace squish::model {
namespace {

using io::TokenizerData;
using SpacePrefix = TokenizerData::SpacePrefix;

constexpr std::string_view kSpace = "\xE2\x96\x81";     // U+2581, SentencePiece's space
constexpr std::size_t kMaxText = std::size_t{1} << 30;  // offsets are 32 bits
constexpr std::size_t kMaxTokens = std::size_t{1} << 24;

/// GPT-2's alphabet: the character that stands for each byte, printable bytes for themselves.
std::array<std::string, 256> byte_alphabet() {
  std::array<std::string, 256> alphabet;
  unsigned next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const unsigned code = printable ? byte : next++;
    if (code < 0x80) {
      alphabet[byte] = static_cast<char>(code);
    } else {
      alphabet[byte] = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
    }
  }
  return alphabet;
}

/// The special tokens, found by the longest match at each place (Aho-Corasick's leftmost-longest;
/// a walk from each place is as fast for the short texts that special tokens are).
class SpecialMatcher {
 public:
  explicit SpecialMatcher(const std::vector<TokenizerData::Special>& special) : special_(special) {
    for (std::uint32_t i = 0; i < special.size(); ++i) {
      if (special[i].text.empty()) continue;
      std::uint32_t node = 0;
      for (const char c : special[i].text) {
        const auto [child, is_new] = children_.try_emplace(key(node, c), nodes_);
        if (is_new) ++nodes_;
        node = child->second;
      }
      ends_[node] = i;
      starts_[static_cast<unsigned char>(special[i].text[0])] = true;
    }
  }

  struct Match {
    const TokenizerData::Special* special;
    std::size_t begin, end;
  };
  /// The first match that starts at `from` or later.
  std::optional<Match> find(std::string_view text, std::size_t from, bool control) const {
    for (std::size_t begin = from; begin < text.size(); ++begin) {
      if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
      std::optional<Match> longest;
      std::uint32_t node = 0;
      for (std::size_t i = begin; i < text.size(); ++i) {
        const auto child = children_.find(key(node, text[i]));
        if (child == children_.end()) break;
        node = child->second;
        const auto end = ends_.find(node);
        if (end == ends_.end()) continue;
        const TokenizerData::Special& special = special_[end->second];
        if (control || !special.control) longest = {&special, begin, i + 1};
      }
      if (longest) return longest;
    }
    return {};
  }

 private:
  static std::uint64_t key(std::uint32_t node, char c) {
    return std::uint64_t{node} << 8 | static_cast<unsigned char>(c);
  }

  const std::vector<TokenizerData::Special>& special_;
  std::unordered_map<std::uint64_t, std::uint32_t> children_;
  std::unordered_map<std::uint32_t, std::uint32_t> ends_;  // node -> index in special_
  std::uint32_t nodes_ = 1;
  std::array<bool, 256> starts_{};
};

}  // namespace

struct Tokenizer::Impl {
  TokenizerData data;
  std::unordered_map<std::string_view, TokenId> vocabulary;  // texts; views into data.tokens
  std::vector<const TokenizerData::Special*> special;        // by id; nullptr: ordinary
  std::vector<std::string> pieces;                           // bytes by id
  std::array<std::string, 256> alphabet = byte_alphabet();   // byte-level
  std::array<TokenId, 256> byte_tokens;
  std::unordered_map<std::uint64_t, Merge> merges;  // by the ids of left and right
  std::vector<std::uint32_t> score_ranks;           // by id, where scores rank the merges
  std::size_t longest_token = 0;
  bool spaces_within_tokens = false;  // SentencePiece: a space may merge with what is before it
  SpecialMatcher matcher;
  PreTokenizer pre_tokenizer;

  explicit Impl(const TokenizerData& d)
      : data(d), matcher(data.special), pre_tokenizer(data.patterns, data.source) {
    if (data.kind == TokenizerData::Kind::none) fail("{}: there is no tokenizer", data.source);
    if (data.tokens.size() > kMaxTokens) {
      fail("{}: a vocabulary of {} tokens; at most {} are supported", data.source,
           data.tokens.size(), kMaxTokens);
    }
    index_tokens();
    if (data.scores.empty()) {
      index_merges();
    } else {
      rank_scores();
    }
  }

  bool byte_level() const { return data.kind == TokenizerData::Kind::byte_level_bpe; }

  std::optional<TokenId> find_token(std::string_view text) const {
    const auto found = vocabulary.find(text);
    return found == vocabulary.end() ? std::nullopt : std::optional(found->second);
  }

  void index_tokens() {
    const std::size_t count = data.tokens.size();
    const auto check = [&](std::string_view what, std::optional<TokenId> id) {
      if (id && *id >= count) {
        fail("{}: the id {} of the {} token is beyond the vocabulary of {}", data.source, *id, what,
             count);
      }
    };
    check("BOS", data.bos);
    check("EOS", data.eos);
    check("unknown", data.unknown);
    for (const TokenId id : data.stop) check("stop", id);
    special.resize(count);
    for (const auto& entry : data.special) {
      check("special", entry.id);
      // It is matched in valid text; what it leaves on either side must be valid too.
      if (repair_utf8(entry.text) != entry.text) {
        fail("{}: the text of special token {} is not valid UTF-8", data.source, entry.id);
      }
      special[entry.id] = &entry;
    }
    vocabulary.reserve(count);
    for (TokenId id = 0; id < count; ++id) {
      vocabulary[data.tokens[id]] = id;
      longest_token = std::max(longest_token, data.tokens[id].size());
      spaces_within_tokens |= has_inner_space(data.tokens[id]);
    }
    // Otherwise words merge alone, each once; unless merging is not all there is to it.
    spaces_within_tokens |= data.ignore_merges || !find_token(kSpace);
    for (unsigned byte = 0; byte < 256; ++byte) {
      byte_tokens[byte] =
          find_token(byte_level() ? alphabet[byte] : fmt::format("<0x{:02X}>", byte))
              .value_or(kNoToken);
    }
    pieces.resize(count);
    std::unordered_map<std::string_view, char> bytes;
    for (unsigned byte = 0; byte < 256; ++byte) bytes[alphabet[byte]] = static_cast<char>(byte);
    for (TokenId id = 0; id < count; ++id) {
      pieces[id] = special[id]    ? special[id]->text
                   : byte_level() ? byte_level_piece(data.tokens[id], bytes)
                                  : sentencepiece_piece(data.tokens[id]);
    }
    for (unsigned byte = 0; byte < 256 && !byte_level(); ++byte) {
      if (byte_tokens[byte] != kNoToken) pieces[byte_tokens[byte]] = static_cast<char>(byte);
    }
  }

  static std::string byte_level_piece(std::string_view token,
                                      const std::unordered_map<std::string_view, char>& bytes) {
    std::string piece;
    for (std::size_t at = 0; at < token.size();) {
      const std::string_view character = token.substr(at, character_length(token[at]));
      const auto byte = bytes.find(character);
      if (byte == bytes.end()) return std::string(token);  // not of the alphabet: as it is
      piece += byte->second;
      at += character.size();
    }
    return piece;
  }

  static bool has_inner_space(std::string_view token) {
    while (token.starts_with(kSpace)) token.remove_prefix(kSpace.size());
    return token.find(kSpace) != token.npos;
  }

  static std::string sentencepiece_piece(std::string_view token) {
    std::string piece;
    while (!token.empty()) {
      const bool space = token.starts_with(kSpace);
      piece += space ? ' ' : token[0];
      token.remove_prefix(space ? kSpace.size() : 1);
    }
    return piece;
  }

  void index_merges() {
    merges.reserve(data.merges.size());
    for (std::uint32_t rank = 0; rank < data.merges.size(); ++rank) {
      const auto& [left, right] = data.merges[rank];
      const auto l = find_token(left), r = find_token(right), result = find_token(left + right);
      if (!l || !r || !result) {
        fail("{}: merge {} joins '{}' and '{}', but the vocabulary lacks '{}'", data.source, rank,
             repair_utf8(left), repair_utf8(right),
             repair_utf8(!l   ? left
                         : !r ? right
                              : left + right));
      }
      merges[pair_key(*l, *r)] = {rank, *result};
    }
  }

  void rank_scores() {
    const std::size_t count = data.tokens.size();
    if (data.scores.size() != count) {
      fail("{}: {} scores for {} tokens", data.source, data.scores.size(), count);
    }
    std::vector<TokenId> order(count);
    for (TokenId id = 0; id < count; ++id) {
      if (!std::isfinite(data.scores[id]))
        fail("{}: the score of token {} is not finite", data.source, id);
      order[id] = id;
    }
    std::sort(order.begin(), order.end(),
              [&](TokenId a, TokenId b) { return data.scores[a] > data.scores[b]; });
    score_ranks.resize(count);
    std::uint32_t rank = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0 && data.scores[order[i]] < data.scores[order[i - 1]]) ++rank;
      score_ranks[order[i]] = rank;
    }
    // Text never merges into a control token or the name of a byte.
    for (const auto& entry : data.special) {
      if (entry.control) vocabulary.erase(entry.text);
    }
    for (const TokenId id : byte_tokens) {
      if (id != kNoToken) vocabulary.erase(data.tokens[id]);
    }
  }

  static std::uint64_t pair_key(TokenId left, TokenId right) {
    return std::uint64_t{left} << 32 | right;
  }

  /// Ids of `word`, appended.
  void encode_word(std::string_view word, std::vector<TokenId>& ids) const {
    if (data.ignore_merges) {
      if (const auto id = find_token(byte_level() ? printable(word) : std::string(word))) {
        ids.push_back(*id);
        return;
      }
    }
    std::vector<Symbol> symbols;
    for (std::uint32_t begin = 0; begin < word.size();) {
      const auto length =
          static_cast<std::uint32_t>(byte_level() ? 1 : character_length(word[begin]));
      TokenId id = byte_level() ? byte_tokens[static_cast<unsigned char>(word[begin])]
                                : find_token(word.substr(begin, length)).value_or(kNoToken);
      if (byte_level() && id == kNoToken) id = data.unknown.value_or(kNoToken);
      // A byte that a byte-level vocabulary lacks is dropped where there is no unknown token.
      if (!byte_level() || id != kNoToken) symbols.push_back({id, begin, length});
      begin += length;
    }
    if (data.scores.empty()) {
      merge_symbols(symbols, [&](const Symbol& left, const Symbol& right) {
        const auto found = merges.find(pair_key(left.id, right.id));
        return found == merges.end() ? std::nullopt : std::optional(found->second);
      });
    } else {
      merge_symbols(symbols, [&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
        const std::size_t length = left.length + right.length;
        if (length > longest_token) return {};
        const auto id = find_token(word.substr(left.begin, length));
        return id ? std::optional(Merge{score_ranks[*id], *id}) : std::nullopt;
      });
    }
    bool unknown = false;  // neighbours that are unknown become one token
    for (const Symbol& symbol : symbols) {
      if (symbol.id != kNoToken) {
        ids.push_back(symbol.id);
        unknown = false;
      } else {
        unknown = !push_bytes(word.substr(symbol.begin, symbol.length), unknown, ids);
      }
    }
  }

  /// Byte fallback; the unknown token, if there is one, where the vocabulary lacks a byte.
  bool push_bytes(std::string_view bytes, bool after_unknown, std::vector<TokenId>& ids) const {
    const auto token_of = [&](char c) { return byte_tokens[static_cast<unsigned char>(c)]; };
    const bool known =
        std::all_of(bytes.begin(), bytes.end(), [&](char c) { return token_of(c) != kNoToken; });
    if (known) {
      for (const char c : bytes) ids.push_back(token_of(c));
    } else if (data.unknown && !after_unknown) {
      ids.push_back(*data.unknown);
    }
    return known;
  }

  std::string printable(std::string_view word) const {
    std::string text;
    for (const char c : word) text += alphabet[static_cast<unsigned char>(c)];
    return text;
  }

  /// The text between special tokens as BPE sees it: normalised, SentencePiece's spaces written.
  std::string normalize(std::string_view text, bool first) const {
    std::string normal = data.nfc ? to_nfc(text) : std::string(text);
    if (byte_level()) return normal;
    std::string spaced;
    const bool unspaced = !normal.starts_with(' ') && !normal.starts_with(kSpace);
    if (data.space_prefix == SpacePrefix::always ||
        (data.space_prefix == SpacePrefix::unless_spaced && unspaced) ||
        (data.space_prefix == SpacePrefix::first_unless_spaced && unspaced && first)) {
      spaced = kSpace;
    }
    for (const char c : normal) {
      if (c == ' ') {
        spaced += kSpace;
      } else {
        spaced += c;
      }
    }
    return spaced;
  }

  std::vector<std::string_view> words(std::string_view text) const {
    if (byte_level()) return pre_tokenizer.split(text);
    std::vector<std::string_view> out;
    while (!text.empty()) {
      std::size_t end = text.find(kSpace, 1);
      while (!data.split_at_spaces && end != text.npos &&
             (spaces_within_tokens || text.substr(0, end).ends_with(kSpace))) {
        end = text.find(kSpace, end + 1);
      }
      out.push_back(text.substr(0, end));
      text.remove_prefix(out.back().size());
    }
    return out;
  }
};

Tokenizer::Tokenizer(const io::TokenizerData& data) : impl_(std::make_unique<Impl>(data)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special,
                                       bool parse_special) const {
  const TokenizerData& data = impl_->data;
  if (text.size() > kMaxText)
    fail("a text of {} bytes; at most {} are supported", text.size(), kMaxText);
  const std::string valid = repair_utf8(text);
  std::vector<TokenId> ids;
  if (add_special && data.add_bos && data.bos) ids.push_back(*data.bos);

  // A word's ids do not depend on where it stands: each is merged once. The keys view `sections`.
  std::deque<std::string> sections;
  std::unordered_map<std::string_view, std::pair<std::size_t, std::size_t>> seen;  // range of `ids`
  const auto encode_section = [&](std::string_view section, bool first) {
    if (section.empty()) return;
    sections.push_back(impl_->normalize(section, first));
    for (const std::string_view word : impl_->words(sections.back())) {
      const auto [entry, is_new] = seen.try_emplace(word, ids.size(), 0);
      auto& [begin, count] = entry->second;
      if (is_new) {
        impl_->encode_word(word, ids);
        count = ids.size() - begin;
      } else {
        for (std::size_t i = 0; i < count; ++i) ids.push_back(ids[begin + i]);
      }
    }
  };

  std::size_t done = 0;
  while (const auto match = impl_->matcher.find(valid, done, parse_special)) {
    std::string_view before = std::string_view(valid).substr(done, match->begin - done);
    if (match->special->strip_left) before = trim_right(before);
    encode_section(before, done == 0);
    ids.push_back(match->special->id);
    done = match->end;
    if (match->special->strip_right) {
      done = valid.size() - trim_left(std::string_view(valid).substr(done)).size();
    }
  }
  encode_section(std::string_view(valid).substr(done), done == 0);
  if (add_special && data.add_eos && data.eos) ids.push_back(*data.eos);
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool with_special) const {
  const TokenizerData& data = impl_->data;
  std::string text;
  bool prefixed = data.space_prefix != SpacePrefix::none;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= size()) continue;
    std::string_view piece = impl_->pieces[ids[i]];
    if (const auto* special = impl_->special[ids[i]]) {
      if (special->control && !with_special) piece = {};
      // Text after a special token has a prefix of its own, or is the first behind BOS.
      const bool first = i == 0 && data.add_bos && data.bos == ids[i];
      prefixed = data.space_prefix == SpacePrefix::first_unless_spaced
                     ? first
                     : data.space_prefix != SpacePrefix::none;
    } else {
      if (prefixed && data.tokens[ids[i]].starts_with(kSpace)) piece.remove_prefix(1);
      prefixed = false;
    }
    text += piece;
  }
  return text;
}

std::string_view Tokenizer::piece(TokenId id) const {
  if (id >= size() || (impl_->special[id] && impl_->special[id]->control)) return {};
  return impl_->pieces[id];
}

std::size_t Tokenizer::size() const { return impl_->data.tokens.size(); }
const io::TokenizerData& Tokenizer::data() const { return impl_->data; }

}  // namespace squish::model
