#pragma once
#include <cstddef>

#include "squish/base/threads.h"
#include "squish/linalg/symmetric.h"

namespace squish::linalg {

/// Overwrites the lower triangle of H with its Cholesky factor C, H = C C'; what is above it is
/// lost. n^3 / 3 flops, shared out over the pool from a few thousand rows on: the same for any
/// number of threads. False where H is not positive definite or not finite: its contents are then
/// lost.
bool cholesky(SquareMatrix& h, ThreadPool& pool);

/// Overwrites H with its block LDL factors, H = L D L', for blocks of `block` rows and columns (the
/// last one perhaps smaller): L, unit block lower triangular, below the diagonal blocks, D in
/// them, zeros above. L_ij = C_ij C_jj^-1 and D_j = C_jj C_jj' of cholesky(). False as there.
bool block_ldl(SquareMatrix& h, std::size_t block, ThreadPool& pool);

}  // namespace squish::linalg
