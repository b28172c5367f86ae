#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/random.h"
#include "squish/base/threads.h"
#include "squish/quant/nearest.isa.h"

/// k-means on the vectors that a matrix is cut into, and the pieces that every method with learned
/// codebooks shares: nearest-entry search and the least-squares step for one codebook.
namespace squish::quant {

/// Vectors to be coded. Where the matrix is no multiple of `dim`, the vectors from `short_begin`
/// on are `short_dim` long: their other components are zero in `values` and count nowhere.
struct VectorSet {
  std::size_t dim = 0;
  std::size_t short_begin = 0, short_dim = 0;  // short_begin == size(): none is short
  AlignedVector<float> values;                 // size x dim
  AlignedVector<float> weights;                // size: share of each in the error, >= 0

  std::size_t size() const { return weights.size(); }
  std::size_t width(std::size_t i) const { return i < short_begin ? dim : short_dim; }
  const float* operator[](std::size_t i) const { return values.data() + i * dim; }
};

/// `size` entries of `dim` floats.
struct Codebook {
  std::size_t dim = 0, size = 0;
  AlignedVector<float> values;

  Codebook() = default;
  Codebook(std::size_t d, std::size_t n) : dim(d), size(n), values(d * n) {}
  float* operator[](std::size_t entry) { return values.data() + entry * dim; }
  const float* operator[](std::size_t entry) const { return values.data() + entry * dim; }
};

/// A codebook ready for search by the first `width` components.
class SearchTable {
 public:
  SearchTable(const Codebook& book, std::size_t width);
  SearchView view() const { return {columns_.data(), half_norms_.data(), width_, stride_}; }

 private:
  std::size_t width_, stride_;
  AlignedVector<float> columns_, half_norms_;
};

/// The codes of additive quantisation: vector i is the sum over books m of entry codes[i * M + m].
using Codes = std::vector<std::uint32_t>;

/// The nearest entry of every vector; true if any code changed.
bool assign(const VectorSet& set, const Codebook& book, Codes& codes, ThreadPool& pool);

/// x - sum of the coded entries, of all books but `skip`; `out` has set.dim floats.
void remainder(const VectorSet& set, std::span<const Codebook> books, const Codes& codes,
               std::size_t i, std::size_t skip, float* out);

/// The best values of book m given all codes and the other books: entry c becomes the weighted
/// mean of what the others leave of the vectors coded with c. Entries that no vector of positive
/// weight uses are re-seeded from the vectors of largest error.
void refit_codebook(const VectorSet& set, std::span<Codebook> books, const Codes& codes,
                    std::size_t m, ThreadPool& pool);

/// Weighted k-means: k-means++ seeds (Arthur and Vassilvitskii 2007; on a subset where there are
/// many vectors), then at most `iterations` of Lloyd's, fewer once no code changes. With fewer
/// distinct vectors than `size` the entries left over stay zero. `seed` and `key` name its random
/// streams.
Codebook kmeans(const VectorSet& set, std::size_t size, int iterations, std::uint64_t seed,
                const std::string& key, ThreadPool& pool);

/// `count` vectors spread evenly over those of positive weight, at random within their stratum
/// and in their order; all of these if there are no more.
VectorSet sample(const VectorSet& set, std::size_t count, const CounterRng& rng);

}  // namespace squish::quant
