#include "squish/quant/kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "squish/base/isa.h"

namespace squish::quant {

SQUISH_DECLARE_TABLES(NearestOps, kNearestOps);

const NearestOps& nearest_ops() {
  return choose(scalar::kNearestOps, avx2::kNearestOps, avx512::kNearestOps);
}

namespace {

constexpr std::size_t kChunk = 1024;             // vectors a task
constexpr std::size_t kNone = ~std::size_t{0};   // no book
constexpr std::size_t kPart = 4096;              // least vectors summed apart
constexpr std::size_t kMostEntrySums = 1 << 20;  // sums kept in all, for the memory they take
// k-means++ looks at all its vectors once per seed: this many per seed, within these bounds.
constexpr std::size_t kSeedShare = 64, kSeedLeast = 4096, kSeedMost = 131072;

std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

/// Sums over the vectors that one entry codes: `dim` components, then the weight of the whole
/// vectors and that of the short ones.
class EntrySums {
 public:
  EntrySums(std::size_t dim, std::size_t entries) : width_(dim + 2), sums_(entries * width_) {}
  double* operator[](std::size_t entry) { return sums_.data() + entry * width_; }
  void add(const EntrySums& other, std::size_t begin, std::size_t end) {
    for (std::size_t i = begin * width_; i < end * width_; ++i) sums_[i] += other.sums_[i];
  }

 private:
  std::size_t width_;
  std::vector<double> sums_;
};

/// Gives each unused entry of book m the value that would code one of the worst vectors exactly.
void reseed(const VectorSet& set, std::span<Codebook> books, const Codes& codes, std::size_t m,
            const std::vector<std::size_t>& unused, ThreadPool& pool) {
  std::vector<std::pair<float, std::size_t>> worst(set.size());
  parallel_for(pool, set.size(), kChunk, [&](std::size_t begin, std::size_t end) {
    std::vector<float> rest(set.dim);
    for (std::size_t i = begin; i < end; ++i) {
      remainder(set, books, codes, i, kNone, rest.data());
      const float error =
          std::inner_product(rest.begin(), rest.begin() + set.width(i), rest.begin(), 0.0f);
      const float share = set.weights[i] * error;
      worst[i] = {share > 0 ? -share : 0.0f, i};  // never NaN, which has no order
    }
  });
  const std::size_t count = std::min(unused.size(), worst.size());
  std::partial_sort(worst.begin(), worst.begin() + count, worst.end());
  std::vector<float> rest(set.dim);
  Codebook& book = books[m];
  for (std::size_t u = 0; u < count && worst[u].first < 0; ++u) {
    const std::size_t i = worst[u].second;
    remainder(set, books, codes, i, m, rest.data());
    std::copy_n(rest.begin(), set.width(i), book[unused[u]]);
  }
}

/// k-means++: the first seed is drawn uniformly, each further one with probability proportional to
/// weight times squared distance to the nearest seed so far. Leaves the entries after them
/// zero where every vector is a seed.
void choose_seeds(const VectorSet& set, const CounterRng& rng, ThreadPool& pool, Codebook& book) {
  const std::size_t n = set.size(), stride = round_up(n, kSearchStep);
  AlignedVector<float> columns(set.dim * stride), distances(n, std::numeric_limits<float>::max());
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t d = 0; d < set.dim; ++d) columns[d * stride + i] = set[i][d];
  }
  std::vector<double> masses((n + kChunk - 1) / kChunk);

  std::size_t chosen = rng.below(0, n);
  for (std::size_t seed = 0;; ++seed) {
    std::copy_n(set[chosen], set.dim, book[seed]);
    if (seed + 1 == book.size) return;
    const auto shrink = [&](std::size_t begin, std::size_t end, std::size_t width) {
      return nearest_ops().shrink(columns.data() + begin, stride, end - begin, width, book[seed],
                                  set.weights.data() + begin, distances.data() + begin);
    };
    parallel_for(pool, n, kChunk, [&](std::size_t begin, std::size_t end) {
      const std::size_t cut = std::clamp(set.short_begin, begin, end);
      masses[begin / kChunk] =
          double{shrink(begin, cut, set.dim)} + double{shrink(cut, end, set.short_dim)};
    });
    const double total = std::accumulate(masses.begin(), masses.end(), 0.0);
    if (!(total > 0)) return;

    double target = rng.uniform(seed + 1) * total;
    std::size_t chunk = 0;
    while (chunk + 1 < masses.size() && target >= masses[chunk]) target -= masses[chunk++];
    std::size_t last = kNone;  // of positive mass; rounding may leave a bit of target beyond it
    for (std::size_t i = chunk * kChunk; i < std::min(n, (chunk + 1) * kChunk); ++i) {
      const double mass = double{set.weights[i]} * distances[i];
      if (!(mass > 0)) continue;
      last = i;
      if (target < mass) break;
      target -= mass;
    }
    if (last == kNone) return;
    chosen = last;
  }
}

}  // namespace

SearchTable::SearchTable(const Codebook& book, std::size_t width)
    : width_(width),
      stride_(round_up(book.size, kSearchStep)),
      columns_(width * stride_),
      half_norms_(stride_, std::numeric_limits<float>::infinity()) {
  for (std::size_t c = 0; c < book.size; ++c) {
    float norm = 0;
    for (std::size_t d = 0; d < width; ++d) {
      columns_[d * stride_ + c] = book[c][d];
      norm += book[c][d] * book[c][d];
    }
    half_norms_[c] = 0.5f * norm;
  }
}

bool assign(const VectorSet& set, const Codebook& book, Codes& codes, ThreadPool& pool) {
  const SearchTable table(book, set.dim), short_table(book, set.short_dim);
  std::vector<char> changed((set.size() + kChunk - 1) / kChunk);
  parallel_for(pool, set.size(), kChunk, [&](std::size_t begin, std::size_t end) {
    std::vector<std::uint32_t> index(end - begin);
    std::vector<float> score(end - begin);
    const std::size_t cut = std::clamp(set.short_begin, begin, end);
    nearest_ops().nearest(set[begin], set.dim, cut - begin, table.view(), index.data(),
                          score.data());
    nearest_ops().nearest(set[cut], set.dim, end - cut, short_table.view(),
                          index.data() + (cut - begin), score.data() + (cut - begin));
    changed[begin / kChunk] = !std::equal(index.begin(), index.end(), codes.begin() + begin);
    std::copy(index.begin(), index.end(), codes.begin() + begin);
  });
  return std::any_of(changed.begin(), changed.end(), [](char c) { return c != 0; });
}

void remainder(const VectorSet& set, std::span<const Codebook> books, const Codes& codes,
               std::size_t i, std::size_t skip, float* out) {
  std::copy_n(set[i], set.dim, out);
  for (std::size_t m = 0; m < books.size(); ++m) {
    if (m == skip) continue;
    const float* entry = books[m][codes[i * books.size() + m]];
    for (std::size_t d = 0; d < set.dim; ++d) out[d] -= entry[d];
  }
}

void refit_codebook(const VectorSet& set, std::span<Codebook> books, const Codes& codes,
                    std::size_t m, ThreadPool& pool) {
  Codebook& book = books[m];
  // Parts are summed apart and then in their order, so that threads change nothing.
  const std::size_t n = set.size(), dim = set.dim;
  const std::size_t parts =
      std::clamp<std::size_t>(n / kPart, 1, std::max<std::size_t>(1, kMostEntrySums / book.size));
  std::vector<EntrySums> sums(parts, EntrySums(dim, book.size));
  pool.run(parts, [&](std::size_t part) {
    std::vector<float> rest(dim);
    for (std::size_t i = part * n / parts; i < (part + 1) * n / parts; ++i) {
      double* sum = sums[part][codes[i * books.size() + m]];
      const double weight = set.weights[i];
      remainder(set, books, codes, i, m, rest.data());
      for (std::size_t d = 0; d < set.width(i); ++d) sum[d] += weight * rest[d];
      sum[i < set.short_begin ? dim : dim + 1] += weight;
    }
  });
  std::vector<char> used(book.size);
  parallel_for(pool, book.size, 1024, [&](std::size_t begin, std::size_t end) {
    for (std::size_t part = 1; part < parts; ++part) sums[0].add(sums[part], begin, end);
    for (std::size_t c = begin; c < end; ++c) {
      const double* sum = sums[0][c];
      const double weight = sum[dim], short_weight = sum[dim + 1];
      used[c] = weight + short_weight > 0;
      for (std::size_t d = 0; d < dim; ++d) {
        const double total = weight + (d < set.short_dim ? short_weight : 0.0);
        if (total > 0) book[c][d] = static_cast<float>(sum[d] / total);
      }
    }
  });
  std::vector<std::size_t> unused;
  for (std::size_t c = 0; c < book.size; ++c) {
    if (!used[c]) unused.push_back(c);
  }
  if (!unused.empty()) reseed(set, books, codes, m, unused, pool);
}

Codebook kmeans(const VectorSet& set, std::size_t size, int iterations, std::uint64_t seed,
                const std::string& key, ThreadPool& pool) {
  Codebook book(set.dim, size);
  if (set.size() == 0) return book;
  const CounterRng seeds(seed, key + "/seeds");
  const std::size_t seeds_from = std::clamp(kSeedShare * size, kSeedLeast, kSeedMost);
  if (set.size() > seeds_from) {
    const VectorSet some = sample(set, seeds_from, CounterRng(seed, key + "/sample"));
    choose_seeds(some, seeds, pool, book);
  } else {
    choose_seeds(set, seeds, pool, book);
  }
  Codes codes(set.size());
  for (int i = 0; i < iterations && (assign(set, book, codes, pool) || i == 0); ++i) {
    refit_codebook(set, {&book, 1}, codes, 0, pool);
  }
  return book;
}

VectorSet sample(const VectorSet& set, std::size_t count, const CounterRng& rng) {
  std::vector<std::size_t> candidates;
  candidates.reserve(set.size());
  for (std::size_t i = 0; i < set.size(); ++i) {
    if (set.weights[i] > 0) candidates.push_back(i);
  }
  const std::size_t n = candidates.size();
  count = std::min(count, n);

  VectorSet out;
  out.dim = set.dim;
  out.short_dim = set.short_dim;
  out.values.reserve(count * set.dim);
  out.weights.reserve(count);
  for (std::size_t s = 0; s < count; ++s) {
    const std::size_t begin = s * n / count, end = (s + 1) * n / count;
    const std::size_t i = candidates[begin + rng.below(s, end - begin)];
    out.values.insert(out.values.end(), set[i], set[i] + set.dim);
    out.weights.push_back(set.weights[i]);
    if (i < set.short_begin) out.short_begin = s + 1;
  }
  return out;
}

}  // namespace squish::quant
