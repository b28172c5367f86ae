#include "squish/quant/nearest.isa.h"

#include "squish/base/lanes.isa.h"

namespace squish::quant::SQUISH_ISA_NAMESPACE {
namespace {

using namespace squish::SQUISH_ISA_NAMESPACE;

constexpr float kInfinity = __builtin_inff();
constexpr std::size_t kQueries = 4;  // coded side by side, so that a loaded entry serves all
constexpr std::size_t kTile = 512;   // entries that stay in the L1 cache over all queries
constexpr std::size_t kUnroll = 2;   // registers of entries a step
static_assert(kSearchStep % (kUnroll * kLanes) == 0 && kTile % kSearchStep == 0);

/// Bit l is set where lane l of a comparison holds.
inline unsigned lanes_of(Ints comparison) {
#if defined(SQUISH_ISA_avx512)
  return __builtin_ia32_cvtd2mask512(comparison);
#elif defined(SQUISH_ISA_avx2)
  return static_cast<unsigned>(__builtin_ia32_movmskps256((Floats)comparison));
#else
  return static_cast<unsigned>(__builtin_ia32_movmskps((Floats)comparison));
#endif
}

Floats load(const float* p) { return *reinterpret_cast<const Floats*>(p); }

/// Scores of kQueries queries for the entries [j, j + kUnroll * kLanes).
inline void score_step(const float* const* x, const SearchView& book, std::size_t j,
                       Floats (&score)[kQueries][kUnroll]) {
  for (std::size_t u = 0; u < kUnroll; ++u) {
    const Floats norms = load(book.half_norms + j + u * kLanes);
    for (std::size_t q = 0; q < kQueries; ++q) score[q][u] = norms;
  }
  for (std::size_t d = 0; d < book.dim; ++d) {
    const float* column = book.columns + d * book.stride + j;
    Floats c[kUnroll];
    for (std::size_t u = 0; u < kUnroll; ++u) c[u] = load(column + u * kLanes);
    for (std::size_t q = 0; q < kQueries; ++q) {
      const float component = x[q][d];
      for (std::size_t u = 0; u < kUnroll; ++u) score[q][u] -= component * c[u];
    }
  }
}

/// The queries [i, i + kQueries) of n, the last one repeated where there are fewer.
void point_at(const float* x, std::size_t x_stride, std::size_t i, std::size_t n,
              const float* (&query)[kQueries]) {
  for (std::size_t q = 0; q < kQueries; ++q) query[q] = x + smaller(i + q, n - 1) * x_stride;
}

void nearest(const float* x, std::size_t x_stride, std::size_t n, const SearchView& book,
             std::uint32_t* index, float* score) {
  for (std::size_t i = 0; i < n; ++i) {
    index[i] = 0;
    score[i] = kInfinity;
  }
  Ints lane{};
  for (std::size_t l = 0; l < kLanes; ++l) lane[l] = static_cast<std::int32_t>(l);

  for (std::size_t tile = 0; tile < book.stride; tile += kTile) {
    const std::size_t tile_end = smaller(tile + kTile, book.stride);
    for (std::size_t i = 0; i < n; i += kQueries) {
      const float* query[kQueries];
      point_at(x, x_stride, i, n, query);
      Floats best[kQueries];
      Ints where[kQueries];
      for (std::size_t q = 0; q < kQueries; ++q) {
        best[q] = Floats{} + kInfinity;
        where[q] = Ints{};
      }
      Ints entry = lane + static_cast<std::int32_t>(tile);
      for (std::size_t j = tile; j < tile_end; j += kUnroll * kLanes) {
        Floats found[kQueries][kUnroll];
        score_step(query, book, j, found);
        for (std::size_t u = 0; u < kUnroll; ++u) {
          for (std::size_t q = 0; q < kQueries; ++q) {
            const Ints less = found[q][u] < best[q];
            best[q] = less ? found[q][u] : best[q];
            where[q] = less ? entry : where[q];
          }
          entry += static_cast<std::int32_t>(kLanes);
        }
      }
      for (std::size_t q = 0; q < smaller(kQueries, n - i); ++q) {
        float least = score[i + q];
        std::uint32_t at = index[i + q];
        for (std::size_t l = 0; l < kLanes; ++l) {
          const auto candidate = static_cast<std::uint32_t>(where[q][l]);
          if (best[q][l] < least || (best[q][l] == least && candidate < at)) {
            least = best[q][l];
            at = candidate;
          }
        }
        score[i + q] = least;
        index[i + q] = at;
      }
    }
  }
}

/// Puts (value, entry) into the ascending list, whose last element falls out.
inline void insert(float value, std::uint32_t entry, std::size_t count, float* score,
                   std::uint32_t* index) {
  std::size_t at = count - 1;
  for (; at > 0 && score[at - 1] > value; --at) {
    score[at] = score[at - 1];
    index[at] = index[at - 1];
  }
  score[at] = value;
  index[at] = entry;
}

void top(const float* x, std::size_t x_stride, std::size_t n, const SearchView& book,
         std::size_t count, std::uint32_t* index, float* score) {
  for (std::size_t i = 0; i < n * count; ++i) {
    index[i] = 0;
    score[i] = kInfinity;
  }
  Floats found[kQueries][kTile / kLanes];
  for (std::size_t tile = 0; tile < book.stride; tile += kTile) {
    const std::size_t registers = smaller(kTile, book.stride - tile) / kLanes;
    for (std::size_t i = 0; i < n; i += kQueries) {
      const float* query[kQueries];
      point_at(x, x_stride, i, n, query);
      Floats lowest[kQueries];
      for (std::size_t q = 0; q < kQueries; ++q) lowest[q] = Floats{} + kInfinity;
      for (std::size_t r = 0; r < registers; r += kUnroll) {
        Floats step[kQueries][kUnroll];
        score_step(query, book, tile + r * kLanes, step);
        for (std::size_t q = 0; q < kQueries; ++q) {
          for (std::size_t u = 0; u < kUnroll; ++u) {
            found[q][r + u] = step[q][u];
            lowest[q] = step[q][u] < lowest[q] ? step[q][u] : lowest[q];
          }
        }
      }
      for (std::size_t q = 0; q < smaller(kQueries, n - i); ++q) {
        float* list = score + (i + q) * count;
        std::uint32_t* entries = index + (i + q) * count;
        // Each lane has an entry as low as its lowest, so the best `count` lie at or below
        // the highest of these.
        float bound = list[count - 1];
        if (count <= kLanes) {
          float highest = -kInfinity;
          for (std::size_t l = 0; l < kLanes; ++l) {
            highest = lowest[q][l] > highest ? lowest[q][l] : highest;
          }
          bound = highest < bound ? highest : bound;
        }
        for (std::size_t r = 0; r < registers; ++r) {
          const Ints below = found[q][r] <= bound;
          for (unsigned lanes = lanes_of(below); lanes != 0; lanes &= lanes - 1) {
            const auto l = static_cast<std::size_t>(__builtin_ctz(lanes));
            const float value = found[q][r][l];
            if (!(value < list[count - 1])) continue;
            insert(value, static_cast<std::uint32_t>(tile + r * kLanes + l), count, list, entries);
            bound = list[count - 1] < bound ? list[count - 1] : bound;
          }
        }
      }
    }
  }
}

float shrink(const float* columns, std::size_t stride, std::size_t n, std::size_t dim,
             const float* c, const float* weight, float* distance) {
  float sum = 0;
  constexpr std::size_t kRun = 64;
  float square[kRun];
  for (std::size_t begin = 0; begin < n; begin += kRun) {
    const std::size_t size = smaller(kRun, n - begin);
    for (std::size_t i = 0; i < size; ++i) square[i] = 0;
    for (std::size_t d = 0; d < dim; ++d) {
      const float* column = columns + d * stride + begin;
#pragma omp simd
      for (std::size_t i = 0; i < size; ++i) {
        const float difference = column[i] - c[d];
        square[i] += difference * difference;
      }
    }
#pragma omp simd reduction(+ : sum)
    for (std::size_t i = 0; i < size; ++i) {
      const float least = square[i] < distance[begin + i] ? square[i] : distance[begin + i];
      distance[begin + i] = least;
      sum += weight[begin + i] * least;
    }
  }
  return sum;
}

}  // namespace

extern const NearestOps kNearestOps;
const NearestOps kNearestOps = {nearest, top, shrink};

}  // namespace squish::quant::SQUISH_ISA_NAMESPACE
