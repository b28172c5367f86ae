#pragma once
#include <cstddef>
#include <span>

#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/linalg/symmetric.h"

/// Sums over tokens: of outer products, and of the vectors themselves.
namespace squish::linalg {

/// triangle += upper triangle of Xᵀ X; x: tokens x n, finite. Products are summed in f32 over 512
/// tokens, those sums in f64 in the order of the tokens; the same for any number of threads.
void add_outer_products(ConstMatrixView x, std::span<double> triangle, ThreadPool& pool);

/// sums += Xᵀ Y, row by row m x n; x: tokens x m, y: tokens x n, finite. Summed likewise.
void add_cross_products(ConstMatrixView x, ConstMatrixView y, std::span<double> sums,
                        ThreadPool& pool);

/// sums[j] += the sum of column j of x, in f64 in the order of the rows.
void add_rows(ConstMatrixView x, std::span<double> sums, ThreadPool& pool);

/// Whether all of x[i] are in +-limit; NaN is not.
bool all_within(std::span<const float> x, float limit);

}  // namespace squish::linalg
