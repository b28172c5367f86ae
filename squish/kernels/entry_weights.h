#pragma once
#include <cstddef>
#include <vector>

namespace squish::kernels {

/// How much of a matrix each component of its codebooks' entries is in, of codes of a byte: what no
/// product has may be anything.
class EntryWeights {
 public:
  /// The vectors at the edge have their first `edge` components alone.
  EntryWeights(std::size_t books, std::size_t edge)
      : edge_(edge), whole_(books * kEntries), short_(books * kEntries) {}

  /// A vector, perhaps one at the edge, has that entry; its `weight` is its scale squared.
  void add(std::size_t book, std::size_t entry, bool at_edge, double weight) {
    (at_edge ? short_ : whole_)[book * kEntries + entry] += weight;
  }
  double of(std::size_t book, std::size_t entry, std::size_t component) const {
    const std::size_t at = book * kEntries + entry;
    return whole_[at] + (component < edge_ ? short_[at] : 0);
  }

 private:
  static constexpr std::size_t kEntries = 256;

  std::size_t edge_;
  std::vector<double> whole_, short_;
};

}  // namespace squish::kernels
