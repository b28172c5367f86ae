#pragma once
#include "squish/linalg/symmetric.h"
#include "squish/quant/additive.h"

/// AQLM's full objective (arXiv 2401.06118, section 3): codes, codebooks and scales that keep
/// tr((W - What) H (W - What)') small, H = E[x x'] of the layer's input.
namespace squish::quant {

/// H in floats, relative to the mean of its diagonal; the identity if that is not positive. What no
/// two inputs can share is cut off.
Matrix relative_metric(const linalg::SymmetricMatrix& second);

/// Improves `code`, a code of the rows of `weights` (layout.down is false), under `metric`
/// (cols x cols, from relative_metric()): in turn, codebooks and scales by conjugate gradients and
/// closed form, then the codes, group by group along the rows, with what all other groups of the
/// row leave as the target. At most options.rounds rounds, until the relative gain is below
/// options.tolerance, then once more with books and scales rounded. Given options.books stay as
/// they are.  Error if that has no end, as under a metric that is not positive semidefinite.
void refine_under(const Matrix& metric, ConstMatrixView weights, const VectorLayout& layout,
                  const AdditiveOptions& options, AdditiveCode& code, ThreadPool& pool);

}  // namespace squish::quant
