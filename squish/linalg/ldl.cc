#include "squish/linalg/ldl.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>

#include "squish/linalg/blas.h"

namespace squish::linalg {

bool block_ldl(SquareMatrix& h, std::size_t block) {
  keep_blas_single_threaded();
  const std::size_t n = h.size();
  if (n == 0) return true;
  const auto order = static_cast<lapack_int>(n);
  // Rows of ours are LAPACK's columns, so that our lower triangle is its upper one.
  if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', order, h.data(), order) != 0) return false;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(h(i, i))) return false;
    std::fill(&h(i, i) + 1, h.data() + (i + 1) * n, 0.0);
  }

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
