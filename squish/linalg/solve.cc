#include "squish/linalg/solve.h"

#include <lapacke.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "squish/linalg/blas.h"

namespace squish::linalg {

bool solve_right(SquareMatrix& h, std::span<double> b, ThreadPool& pool) {
  keep_blas_single_threaded();
  const std::size_t n = h.size();
  if (n == 0) return true;
  assert(b.size() % n == 0);
  const auto order = static_cast<lapack_int>(n);
  // Rows of ours are LAPACK's columns.
  if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', order, h.data(), order) != 0) return false;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(h(i, i))) return false;
  }
  constexpr std::size_t kRows = 64;
  parallel_for(pool, b.size() / n, kRows, [&](std::size_t begin, std::size_t end) {
    LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', order, static_cast<lapack_int>(end - begin),
                        h.data(), order, b.data() + begin * n, order);
  });
  return true;
}

}  // namespace squish::linalg
