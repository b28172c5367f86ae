#pragma once
#include <filesystem>

#include "squish/base/buffer.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"

namespace squish::compress {

/// Sums over tokens of what sequential calibration needs of one input: x of the original model, x̂
/// of the compressed one; of layers whose output is added to the residual stream, that stream, r
/// and r̂, as well.
struct SequentialSums {
  std::size_t width = 0, stream = 0;  ///< elements of x, of r (0: not wanted)
  std::size_t tokens = 0;
  AlignedVector<double> sum, products;    ///< of x̂, of x̂ x̂ᵀ (its triangle)
  AlignedVector<double> shift, residual;  ///< of (x - x̂) x̂ᵀ, of (r - r̂) x̂ᵀ

  SequentialSums(std::size_t width, std::size_t stream);

  /// `x` and `r` become differences from `own` and `own_r`. Tokens at which one of them is not
  /// finite do not count. Where `stream` is 0, `r` and `own_r` are empty.
  void add(Matrix x, Matrix own, Matrix r, ConstMatrixView own_r, ThreadPool& pool);
  void add(const SequentialSums& other);
};

/// For other ranks, and for a job that goes on. Reading: Error naming the file if it does not hold
/// sums of these sizes or, where that is checked, not the ones that were written.
void write_sums(const std::filesystem::path& path, const SequentialSums& sums);
SequentialSums read_sums(const std::filesystem::path& path, std::size_t width, std::size_t stream,
                         bool check);

}  // namespace squish::compress
