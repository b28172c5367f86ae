#include "squish/linalg/outer_product.h"

#include <algorithm>
#include <cassert>

#include "squish/base/isa.h"
#include "squish/linalg/gemm.h"
#include "squish/linalg/outer_product.isa.h"

namespace squish::linalg {

SQUISH_DECLARE_TABLES(SumOps, kSumOps);

const SumOps& sum_ops() { return choose(scalar::kSumOps, avx2::kSumOps, avx512::kSumOps); }

namespace {

constexpr std::size_t kBlock = 128;      // columns of x
constexpr std::size_t kTokens = 512;     // summed in f32
constexpr std::size_t kSumColumns = 64;  // a chunk of add_rows()

/// Calls add(i, products) for each row i of the block at (top, left) of Xᵀ Y, once for every run of
/// kTokens tokens.
template <class Add>
void add_block(ConstMatrixView x, std::size_t top, ConstMatrixView y, std::size_t left,
               const Add& add) {
  const std::size_t height = std::min(kBlock, x.cols - top);
  const std::size_t width = std::min(kBlock, y.cols - left);
  thread_local Matrix products(kBlock, kBlock);
  for (std::size_t begin = 0; begin < x.rows; begin += kTokens) {
    const std::size_t count = std::min(kTokens, x.rows - begin);
    gemm_tn(ConstMatrixView(&x(begin, top), count, height, x.stride),
            ConstMatrixView(&y(begin, left), count, width, y.stride),
            MatrixView(products.data(), height, width, kBlock));
    for (std::size_t i = 0; i < height; ++i) add(i, products.row(i).first(width));
  }
}

}  // namespace

void add_outer_products(ConstMatrixView x, std::span<double> triangle, ThreadPool& pool) {
  const std::size_t n = x.cols, blocks = (n + kBlock - 1) / kBlock;
  assert(triangle.size() == triangle_size(n));
  // Block (a, b), b >= a, is chunk a * blocks + b of a square of which half is empty.
  pool.run(blocks * blocks, [&](std::size_t chunk) {
    const std::size_t top = chunk / blocks * kBlock, left = chunk % blocks * kBlock;
    if (left < top) return;
    add_block(x, top, x, left, [&](std::size_t i, std::span<const float> products) {
      const std::size_t skip = top == left ? i : 0;  // what is below the diagonal
      const std::size_t row = triangle_row(top + i, n) + (left + skip) - (top + i);
      sum_ops().add(&products[skip], products.size() - skip, &triangle[row]);
    });
  });
}

void add_cross_products(ConstMatrixView x, ConstMatrixView y, std::span<double> sums,
                        ThreadPool& pool) {
  const std::size_t n = y.cols, across = (n + kBlock - 1) / kBlock;
  assert(sums.size() == x.cols * n && y.rows == x.rows);
  pool.run((x.cols + kBlock - 1) / kBlock * across, [&](std::size_t chunk) {
    const std::size_t top = chunk / across * kBlock, left = chunk % across * kBlock;
    add_block(x, top, y, left, [&](std::size_t i, std::span<const float> products) {
      sum_ops().add(products.data(), products.size(), &sums[(top + i) * n + left]);
    });
  });
}

void add_rows(ConstMatrixView x, std::span<double> sums, ThreadPool& pool) {
  assert(sums.size() == x.cols);
  parallel_for(pool, x.cols, kSumColumns, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = 0; i < x.rows; ++i) {
      sum_ops().add(&x(i, begin), end - begin, &sums[begin]);
    }
  });
}

bool all_within(std::span<const float> x, float limit) {
  return sum_ops().within(x.data(), x.size(), limit);
}

}  // namespace squish::linalg
