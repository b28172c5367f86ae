#pragma once
#include <string>
#include <string_view>

#include "squish/base/isa.h"
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

/// The kernel that OpenBLAS is using now.
std::string blas_kernel();
/// A CPU that OpenBLAS does not know gets `chosen`, its oldest kernel: what to set its environment
/// variable OPENBLAS_CORETYPE to instead, before it is loaded; empty where that is no better.
std::string better_blas_kernel(std::string_view chosen, Isa best_of_cpu);

}  // namespace squish::linalg
