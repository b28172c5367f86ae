#include "squish/linalg/symmetric.h"

#include <cblas.h>

#include <numeric>
#include <vector>

#include "squish/linalg/blas.h"

namespace squish::linalg {

SquareMatrix expand(const SymmetricMatrix& h) {
  SquareMatrix whole(h.size());
  for_each_element(h, [&](std::size_t i, std::size_t j, double value) { whole(i, j) = value; });
  return whole;
}

double trace_of_form(ConstMatrixView a, const SymmetricMatrix& h, ThreadPool& pool) {
  assert(a.cols == h.size());
  keep_blas_single_threaded();
  // Runs of rows of H from their diagonal on, all that is off it twice: half of the products, and
  // H is nowhere as a whole.
  constexpr std::size_t kRows = 64;
  const std::size_t n = h.size();
  std::vector<double> parts((n + kRows - 1) / kRows);
  parallel_for(pool, n, kRows, [&](std::size_t begin, std::size_t end) {
    const std::size_t height = end - begin, width = n - begin;
    AlignedVector<double> panel(height * width), wide(kRows * width), product(kRows * height);
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t j = i; j < n; ++j) {
        panel[(i - begin) * width + j - begin] = (i == j ? 1 : 2) * h(i, j);
      }
    }
    double sum = 0;
    for (std::size_t top = 0; top < a.rows; top += kRows) {
      const std::size_t rows = std::min(kRows, a.rows - top);
      for (std::size_t r = 0; r < rows; ++r) {
        std::copy_n(a.row(top + r).data() + begin, width, wide.data() + r * width);
      }
      const auto across = static_cast<blasint>(width), high = static_cast<blasint>(height);
      cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<blasint>(rows), high, across,
                  1.0, wide.data(), across, panel.data(), across, 0.0, product.data(), high);
      for (std::size_t r = 0; r < rows; ++r) {
        sum += std::inner_product(product.data() + r * height, product.data() + (r + 1) * height,
                                  wide.data() + r * width, 0.0);
      }
    }
    parts[begin / kRows] = sum;
  });
  return std::accumulate(parts.begin(), parts.end(), 0.0);
}

}  // namespace squish::linalg
