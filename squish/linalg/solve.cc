#include "squish/linalg/solve.h"

#include <lapacke.h>

#include <algorithm>
#include <cassert>

#include "squish/linalg/blas.h"
#include "squish/linalg/ldl.h"

namespace squish::linalg {

bool solve_right(SquareMatrix& h, std::span<double> b, const RowRuns& runs, ThreadPool& pool) {
  keep_blas_single_threaded();
  const std::size_t n = h.size();
  if (n == 0) return true;
  assert(b.size() % n == 0);
  if (!cholesky(h, pool)) return false;
  const auto order = static_cast<lapack_int>(n);  // rows of ours are LAPACK's columns
  runs.for_own(b.size() / n, pool, [&](std::size_t begin, std::size_t end) {
    LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', order, static_cast<lapack_int>(end - begin),
                        h.data(), order, b.data() + begin * n, order);
  });
  return true;
}

}  // namespace squish::linalg
