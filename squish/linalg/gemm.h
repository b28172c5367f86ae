#pragma once
#include <string>

#include "squish/base/matrix.h"
#include "squish/base/threads.h"

/// Matrix products over OpenBLAS. Each BLAS call runs on the thread that makes it; parallelism is
/// ours, over chunks that depend on the shapes alone, so that a result is the same for every
/// number of threads.
namespace squish::linalg {

/// C = A Bᵀ on the calling thread; A: m x k, B: n x k, C: m x n. C overlaps neither.
void gemm_nt(ConstMatrixView a, ConstMatrixView b, MatrixView c);
/// C = A B on the calling thread; A: m x k, B: k x n, C: m x n. C overlaps neither.
void gemm_nn(ConstMatrixView a, ConstMatrixView b, MatrixView c);
/// C += A B, likewise.
void gemm_nn_add(ConstMatrixView a, ConstMatrixView b, MatrixView c);

/// C = Aᵀ B on the calling thread; A: k x m, B: k x n, C: m x n. C overlaps neither.
void gemm_tn(ConstMatrixView a, ConstMatrixView b, MatrixView c);

/// C = A Bᵀ in blocks of C that the pool shares out.
void gemm_nt(ConstMatrixView a, ConstMatrixView b, MatrixView c, ThreadPool& pool);

/// The BLAS library's own description, its kernel included: what sums are rounded by.
std::string blas_description();

}  // namespace squish::linalg
