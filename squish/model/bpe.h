#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace squish::model {

/// A stretch of a word: a token, or text that is none.
struct Symbol {
  std::uint32_t id;             ///< token; kNoToken: not (yet) one
  std::uint32_t begin, length;  ///< bytes of the word
};
inline constexpr std::uint32_t kNoToken = ~std::uint32_t{0};

struct Merge {
  std::uint32_t rank;    ///< lower merges first
  std::uint32_t result;  ///< the token that the two become
};

/// Byte-pair encoding (Sennrich et al., 2016) of one word: again and again the pair of neighbours
/// with the lowest rank merges, the leftmost of equals first, until no pair has a merge.
/// `find(left, right)` gives the pair's std::optional<Merge>. O(n log n) in the symbols.
template <class Find>
void merge_symbols(std::vector<Symbol>& symbols, const Find& find) {
  struct Candidate {
    Merge merge;
    std::uint32_t left, length;  // where, and of how many bytes when it was found
    bool operator<(const Candidate& other) const {
      return merge.rank != other.merge.rank ? merge.rank > other.merge.rank : left > other.left;
    }
  };
  const auto count = static_cast<std::uint32_t>(symbols.size());
  std::vector<std::uint32_t> previous(count), next(count);
  std::vector<Candidate> heap;
  const auto propose = [&](std::uint32_t left) {
    if (next[left] >= count) return false;
    const Symbol& a = symbols[left];
    const Symbol& b = symbols[next[left]];
    const std::optional<Merge> merge = find(a, b);
    if (merge) heap.push_back({*merge, left, a.length + b.length});
    return merge.has_value();
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    previous[i] = i - 1;  // of the first: beyond count
    next[i] = i + 1;
  }
  for (std::uint32_t i = 0; i < count; ++i) propose(i);
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[best.left];
    const std::uint32_t right = next[best.left];
    // Symbols only grow, so a pair of the same length is still the same pair.
    if (left.length == 0 || right >= count || left.length + symbols[right].length != best.length) {
      continue;
    }
    left.id = best.merge.result;
    left.length = best.length;
    symbols[right].length = 0;  // gone
    next[best.left] = next[right];
    if (next[right] < count) previous[next[right]] = best.left;
    if (propose(best.left)) std::push_heap(heap.begin(), heap.end());
    if (previous[best.left] < count && propose(previous[best.left])) {
      std::push_heap(heap.begin(), heap.end());
    }
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.length == 0; });
}

}  // namespace squish::model
