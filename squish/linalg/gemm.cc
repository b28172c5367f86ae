#include "squish/linalg/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <cassert>

#include "squish/linalg/blas.h"

namespace squish::linalg {

void keep_blas_single_threaded() {
  static const bool done = (openblas_set_num_threads(1), true);
  static_cast<void>(done);
}

namespace {

// Blocks of C: large enough that packing the operands costs OpenBLAS little, small enough that a
// window of 512 tokens keeps 16 cores busy.
constexpr std::size_t kBlockRows = 256, kBlockCols = 384;

void gemm(ConstMatrixView a, CBLAS_TRANSPOSE transpose_a, ConstMatrixView b,
          CBLAS_TRANSPOSE transpose_b, float beta, MatrixView c) {
  keep_blas_single_threaded();
  if (c.rows == 0 || c.cols == 0) return;
  const auto leading = [](const auto& view) {
    return static_cast<blasint>(std::max<std::size_t>(1, view.stride));
  };
  const std::size_t inner = transpose_a == CblasTrans ? a.rows : a.cols;
  cblas_sgemm(CblasRowMajor, transpose_a, transpose_b, static_cast<blasint>(c.rows),
              static_cast<blasint>(c.cols), static_cast<blasint>(inner), 1.0f, a.data, leading(a),
              b.data, leading(b), beta, c.data, leading(c));
}

}  // namespace

void gemm_nt(ConstMatrixView a, ConstMatrixView b, MatrixView c) {
  assert(a.cols == b.cols && c.rows == a.rows && c.cols == b.rows);
  gemm(a, CblasNoTrans, b, CblasTrans, 0, c);
}

void gemm_nn(ConstMatrixView a, ConstMatrixView b, MatrixView c) {
  assert(a.cols == b.rows && c.rows == a.rows && c.cols == b.cols);
  gemm(a, CblasNoTrans, b, CblasNoTrans, 0, c);
}

void gemm_tn(ConstMatrixView a, ConstMatrixView b, MatrixView c) {
  assert(a.rows == b.rows && c.rows == a.cols && c.cols == b.cols);
  gemm(a, CblasTrans, b, CblasNoTrans, 0, c);
}

void gemm_nn_add(ConstMatrixView a, ConstMatrixView b, MatrixView c) {
  assert(a.cols == b.rows && c.rows == a.rows && c.cols == b.cols);
  gemm(a, CblasNoTrans, b, CblasNoTrans, 1, c);
}

void gemm_nt(ConstMatrixView a, ConstMatrixView b, MatrixView c, ThreadPool& pool) {
  assert(a.cols == b.cols && c.rows == a.rows && c.cols == b.rows);
  const std::size_t across = (c.cols + kBlockCols - 1) / kBlockCols;
  const std::size_t down = (c.rows + kBlockRows - 1) / kBlockRows;
  pool.run(down * across, [&](std::size_t chunk) {
    const std::size_t top = chunk / across * kBlockRows, left = chunk % across * kBlockCols;
    const std::size_t bottom = std::min(c.rows, top + kBlockRows);
    const std::size_t right = std::min(c.cols, left + kBlockCols);
    gemm_nt(a.row_range(top, bottom), b.row_range(left, right),
            MatrixView(&c(top, left), bottom - top, right - left, c.stride));
  });
}

std::string blas_description() { return openblas_get_config(); }

std::string blas_kernel() { return openblas_get_corename(); }

std::string better_blas_kernel(std::string_view chosen, Isa best_of_cpu) {
  // Those before AVX2.
  for (const std::string_view old :
       {"Katmai", "Coppermine", "Northwood", "Prescott", "Banias", "Atom", "Core2", "Penryn",
        "Dunnington", "Nehalem", "Sandybridge", "Athlon", "Opteron", "Opteron_SSE3", "Barcelona",
        "Bobcat", "Bulldozer", "Piledriver", "Nano"}) {
    if (chosen != old) continue;
    return best_of_cpu >= Isa::avx512 ? "SkylakeX" : best_of_cpu == Isa::avx2 ? "Haswell" : "";
  }
  return "";
}

}  // namespace squish::linalg
