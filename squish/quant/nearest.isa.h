#pragma once
#include <cstddef>
#include <cstdint>

/// The loops of kmeans.cc and additive.cc, one table per instruction set (squish/base/isa.h).
namespace squish::quant {

/// A codebook laid out for search: column d, `stride` floats long, holds component d of every
/// entry. `stride` is a multiple of kSearchStep; the entries that pad it have an infinite norm, so
/// that they are never found. Both arrays are aligned to kAlignment.
struct SearchView {
  const float* columns;     // dim x stride
  const float* half_norms;  // stride: |c|^2 / 2
  std::size_t dim, stride;
};

inline constexpr std::size_t kSearchStep = 32;

/// The score of entry c for a query x is |c|^2 / 2 - <x, c>: half the squared distance but for
/// |x|^2 / 2, which is the same for all entries. Of equal scores the lower index wins. Query i
/// starts at x + i * x_stride; its first `dim` floats count.
struct NearestOps {
  /// The entry of least score of each of n queries.
  void (*nearest)(const float* x, std::size_t x_stride, std::size_t n, const SearchView& book,
                  std::uint32_t* index, float* score);
  /// The `count` entries of least score in ascending order of score: index and score are n x
  /// count; count is at most the number of entries.
  void (*top)(const float* x, std::size_t x_stride, std::size_t n, const SearchView& book,
              std::size_t count, std::uint32_t* index, float* score);
  /// distance[i] = min(distance[i], |x_i - c|^2), where component d of x_i is
  /// columns[d * stride + i]; returns the sum of weight[i] * distance[i].
  float (*shrink)(const float* columns, std::size_t stride, std::size_t n, std::size_t dim,
                  const float* c, const float* weight, float* distance);
};

const NearestOps& nearest_ops();

}  // namespace squish::quant
