#pragma once
#include "squish/base/matrix.h"
#include "squish/base/row_runs.h"
#include "squish/base/threads.h"
#include "squish/linalg/symmetric.h"

namespace squish::linalg {

/// X = B H⁻¹ for a positive definite H, n x n; B: rows x n doubles, row by row, of which the rank's
/// own runs become X's: the same for any number of threads. H becomes its Cholesky factor. False
/// where H is not positive definite or not finite; B is then untouched, H lost.
bool solve_right(SquareMatrix& h, std::span<double> b, const RowRuns& runs, ThreadPool& pool);

}  // namespace squish::linalg
