#pragma once
#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/linalg/symmetric.h"

namespace squish::linalg {

/// X = B H⁻¹ for a positive definite H, n x n; B: rows x n doubles, row by row, becomes X. H
/// becomes its Cholesky factor. Runs of rows are shared out over the pool: the same for any number
/// of threads. False where H is not positive definite or not finite; B is then untouched, H lost.
bool solve_right(SquareMatrix& h, std::span<double> b, ThreadPool& pool);

}  // namespace squish::linalg
