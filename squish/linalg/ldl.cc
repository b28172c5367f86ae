#include "squish/linalg/ldl.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>

#include "squish/linalg/blas.h"

namespace squish::linalg {
namespace {

constexpr std::size_t kTile = 512;             // columns that are factored, then taken off the rest
constexpr std::size_t kOneThread = 4 * kTile;  // up to which LAPACK does all

/// Of the `count` rows and columns from `first` on.
bool factor_tile(SquareMatrix& h, std::size_t first, std::size_t count) {
  const auto order = static_cast<lapack_int>(count), stride = static_cast<lapack_int>(h.size());
  // Rows of ours are LAPACK's columns, so that our lower triangle is its upper one.
  return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', order, &h(first, first), stride) == 0;
}

}  // namespace

bool cholesky(SquareMatrix& h, ThreadPool& pool) {
  keep_blas_single_threaded();
  const std::size_t n = h.size(), tile = n <= kOneThread ? n : kTile;
  const auto stride = static_cast<blasint>(n);
  for (std::size_t begin = 0; begin < n; begin += tile) {
    const std::size_t end = std::min(n, begin + tile), width = end - begin;
    if (!factor_tile(h, begin, width)) return false;
    const auto across = static_cast<blasint>(width);
    parallel_for(pool, n - end, kTile / 4, [&](std::size_t first, std::size_t last) {
      cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit,
                  static_cast<blasint>(last - first), across, 1.0, &h(begin, begin), stride,
                  &h(end + first, begin), stride);
    });
    const std::size_t tiles = (n - end + kTile - 1) / kTile;
    pool.run(tiles * tiles, [&](std::size_t chunk) {
      const std::size_t top = end + chunk / tiles * kTile, left = end + chunk % tiles * kTile;
      if (left > top) return;
      cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans,
                  static_cast<blasint>(std::min(kTile, n - top)),
                  static_cast<blasint>(std::min(kTile, n - left)), across, -1.0, &h(top, begin),
                  stride, &h(left, begin), stride, 1.0, &h(top, left), stride);
    });
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(h(i, i))) return false;
  }
  return true;
}

bool block_ldl(SquareMatrix& h, std::size_t block, ThreadPool& pool) {
  const std::size_t n = h.size();
  if (!cholesky(h, pool)) return false;
  for (std::size_t i = 0; i < n; ++i) std::fill_n(&h(i, i) + 1, n - i - 1, 0.0);
  const auto order = static_cast<blasint>(n);

  std::vector<double> pivot;
  for (std::size_t begin = 0; begin < n; begin += block) {
    const std::size_t end = std::min(n, begin + block), width = end - begin;
    if (end < n) {
      cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit,
                  static_cast<blasint>(n - end), static_cast<blasint>(width), 1.0, &h(begin, begin),
                  order, &h(end, begin), order);
    }
    pivot.assign(width * width, 0);
    for (std::size_t i = 0; i < width; ++i) {
      for (std::size_t j = 0; j < width; ++j) {
        for (std::size_t k = 0; k <= std::min(i, j); ++k) {
          pivot[i * width + j] += h(begin + i, begin + k) * h(begin + j, begin + k);
        }
      }
    }
    for (std::size_t i = 0; i < width; ++i) {
      std::copy_n(pivot.begin() + i * width, width, &h(begin + i, begin));
    }
  }
  return true;
}

}  // namespace squish::linalg
