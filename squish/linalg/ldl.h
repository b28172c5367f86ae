#pragma once
#include <cstddef>

#include "squish/linalg/symmetric.h"

namespace squish::linalg {

/// Overwrites H with its block LDL factors, H = L D L', for blocks of `block` rows and columns (the
/// last one perhaps smaller): L, unit block lower triangular, below the diagonal blocks, D in
/// them, zeros above. L_ij = C_ij C_jj^-1 and D_j = C_jj C_jj' where H = C C' (Cholesky);
/// n^3 / 3 flops on the calling thread. False where H is not positive definite or not finite: its
/// contents are then lost.
bool block_ldl(SquareMatrix& h, std::size_t block);

}  // namespace squish::linalg
