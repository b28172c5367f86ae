#include "squish/linalg/symmetric.h"

#include <cblas.h>

#include <cassert>
#include <numeric>
#include <vector>

#include "squish/linalg/blas.h"

namespace squish::linalg {

double trace_of_form(ConstMatrixView a, const SymmetricMatrix& h, ThreadPool& pool) {
  assert(a.cols == h.size());
  keep_blas_single_threaded();
  constexpr std::size_t kRows = 64;
  const std::size_t n = h.size();
  std::vector<double> parts((a.rows + kRows - 1) / kRows);
  parallel_for(pool, a.rows, kRows, [&](std::size_t begin, std::size_t end) {
    AlignedVector<double> wide((end - begin) * n), product((end - begin) * n);
    for (std::size_t i = begin; i < end; ++i) {
      std::copy(a.row(i).begin(), a.row(i).end(), wide.begin() + (i - begin) * n);
    }
    const auto order = static_cast<blasint>(n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<blasint>(end - begin), order,
                order, 1.0, wide.data(), order, h.data(), order, 0.0, product.data(), order);
    parts[begin / kRows] = std::inner_product(wide.begin(), wide.end(), product.begin(), 0.0);
  });
  return std::accumulate(parts.begin(), parts.end(), 0.0);
}

}  // namespace squish::linalg
