#include "squish/quant/feedback.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

#include "squish/linalg/gemm.h"
#include "squish/linalg/ldl.h"

namespace squish::quant {
namespace {

constexpr std::size_t kRows = 64;       // of a run, about
constexpr double kFirstDamping = 1e-3;  // where none was asked for and none does not work

bool is_live(double diagonal) { return std::isfinite(diagonal) && diagonal > 0; }

/// H_jj, inputs that are never anything but 0 (or not numbers) at the mean of the others.
std::vector<double> live_diagonal(const linalg::SymmetricMatrix& h) {
  std::vector<double> diagonal(h.size());
  double sum = 0;
  std::size_t live = 0;
  for (std::size_t j = 0; j < h.size(); ++j) {
    if (!is_live(h(j, j))) continue;
    sum += h(j, j);
    ++live;
  }
  const double mean = live == 0 ? 1 : sum / static_cast<double>(live);
  for (std::size_t j = 0; j < h.size(); ++j) diagonal[j] = is_live(h(j, j)) ? h(j, j) : mean;
  return diagonal;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

bool all_finite(const linalg::SymmetricMatrix& h) {
  return std::all_of(h.data(), h.data() + h.size() * h.size(),
                     [](double x) { return std::isfinite(x); });
}

/// One run of rows.
struct Run {
  const Factor& factor;
  const BlockRounding& rounding;
  std::size_t first_row;
  MatrixView target, error, rounded;

  /// Columns [begin, end), whose targets have the feedback of all later ones.
  void columns(std::size_t begin, std::size_t end) {
    const std::size_t group = rounding.group == 0 ? factor.size() : rounding.group;
    const bool one_group = end - begin <= group;  // cuts are at multiples of `group`
    if (one_group && rounding.begin_group && (begin % group == 0) &&
        (end == std::min(factor.size(), begin + group))) {
      rounding.begin_group(first_row, begin, target.col_range(begin, end));
    }
    const std::size_t unit = one_group ? factor.block : group;
    const std::size_t units = (end - begin + unit - 1) / unit;
    if (units == 1 && one_group) {
      round(begin, end);
      return;
    }
    const std::size_t middle = begin + units / 2 * unit;
    columns(middle, end);
    if (factor.lower.size() != 0) {
      linalg::gemm_nn_add(error.col_range(middle, end),
                          factor.lower.view().row_range(middle, end).col_range(begin, middle),
                          target.col_range(begin, middle));
    }
    columns(begin, middle);
  }

  void round(std::size_t begin, std::size_t end) {
    const MatrixView value = rounded.col_range(begin, end), rest = error.col_range(begin, end);
    // `error` holds W until here.
    rounding.round(first_row, begin, target.col_range(begin, end), value);
    for (std::size_t i = 0; i < value.rows; ++i) {
      for (std::size_t j = 0; j < value.cols; ++j) rest(i, j) -= value(i, j);
    }
  }
};

}  // namespace

Factor factor_hessian(const linalg::SymmetricMatrix& h, std::size_t block, double damping) {
  Factor factor;
  factor.block = block;
  const std::vector<double> diagonal = live_diagonal(h);
  const std::size_t n = h.size();
  if (n == 0) return factor;
  const double mean = mean_of(diagonal);
  const bool finite = all_finite(h);
  for (double tried = damping; finite && tried <= std::max(1.0, damping);
       tried = std::max(kFirstDamping, 10 * tried)) {
    linalg::SymmetricMatrix work = h;
    for (std::size_t j = 0; j < n; ++j) work(j, j) = diagonal[j] + tried * mean;
    if (!linalg::block_ldl(work, block)) continue;
    factor.damping = tried;
    factor.lower = Matrix(n, n);
    for (std::size_t i = 0; i < n; ++i) {
      factor.pivot.push_back(work(i, i));
      for (std::size_t j = 0; j < i / block * block; ++j) {
        factor.lower(i, j) = static_cast<float>(work(i, j));
      }
    }
    return factor;
  }
  factor.damping = std::max(1.0, damping);
  factor.diagonal_only = true;
  factor.pivot = diagonal;
  return factor;
}

std::shared_ptr<const ColumnFeedback> prepare_columns(const linalg::SymmetricMatrix& h,
                                                      double damping, bool by_energy) {
  auto feedback = std::make_shared<ColumnFeedback>();
  const std::size_t n = h.size();
  const std::vector<double> diagonal = live_diagonal(h);
  const linalg::SymmetricMatrix* ordered = &h;
  linalg::SymmetricMatrix permuted;
  if (by_energy) {
    feedback->order.resize(n);
    std::iota(feedback->order.begin(), feedback->order.end(), 0u);
    std::stable_sort(feedback->order.begin(), feedback->order.end(),
                     [&](std::size_t a, std::size_t b) { return diagonal[a] < diagonal[b]; });
    permuted = linalg::SymmetricMatrix(n);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        permuted(i, j) = h(feedback->order[i], feedback->order[j]);
      }
    }
    ordered = &permuted;
  }
  feedback->factor = factor_hessian(*ordered, 1, damping);
  feedback->inputs = n;
  feedback->damping = feedback->factor.damping;
  feedback->diagonal_only = feedback->factor.diagonal_only;
  if (std::any_of(diagonal.begin(), diagonal.end(), [&](double d) { return d != diagonal[0]; })) {
    const double mean = mean_of(diagonal);
    for (std::size_t j = 0; j < n; ++j) {
      const double live = is_live(h(j, j)) ? h(j, j) / mean : 0;
      feedback->weights.push_back(static_cast<float>(live + damping));
    }
  }
  return feedback;
}

void ldlq(ConstMatrixView weights, const Factor& factor, const BlockRounding& rounding,
          MatrixView rounded, ThreadPool& pool) {
  assert(weights.cols == factor.size() && rounding.group % factor.block == 0);
  const std::size_t multiple = rounding.row_multiple, n = weights.cols;
  const std::size_t rows = (kRows + multiple - 1) / multiple * multiple;
  parallel_for(pool, weights.rows, rows, [&](std::size_t begin, std::size_t end) {
    Matrix target(end - begin, n), error(end - begin, n);
    for (std::size_t i = begin; i < end; ++i) {
      std::copy_n(weights.row(i).begin(), n, target.row(i - begin).begin());
      std::copy_n(weights.row(i).begin(), n, error.row(i - begin).begin());
    }
    Run{factor, rounding, begin, target, error, rounded.row_range(begin, end)}.columns(0, n);
  });
}

double proxy_loss(ConstMatrixView weights, ConstMatrixView rounded,
                  const linalg::SymmetricMatrix& h, ThreadPool& pool) {
  Matrix error(weights.rows, weights.cols);
  for (std::size_t i = 0; i < weights.rows; ++i) {
    for (std::size_t j = 0; j < weights.cols; ++j) error(i, j) = weights(i, j) - rounded(i, j);
  }
  const double lost = linalg::trace_of_form(error, h, pool);
  return lost == 0 ? 0 : lost / linalg::trace_of_form(weights, h, pool);
}

}  // namespace squish::quant
