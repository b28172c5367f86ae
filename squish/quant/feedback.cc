#include "squish/quant/feedback.h"

#include <lapacke.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cmath>
#include <numeric>

#include "squish/linalg/blas.h"
#include "squish/linalg/gemm.h"
#include "squish/linalg/ldl.h"

namespace squish::quant {
namespace {

constexpr std::size_t kRows = 64;       // at a time
constexpr double kFirstDamping = 1e-3;  // where none was asked for and none does not work

bool is_live(double diagonal) { return std::isfinite(diagonal) && diagonal > 0; }

/// H_jj, inputs that are never anything but 0 (or not numbers) at the mean of the others.
std::vector<double> live_diagonal(const HessianView& h) {
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

bool all_finite(const HessianView& h, ThreadPool& pool) {
  std::atomic<bool> finite = true;
  parallel_for(pool, h.size(), kRows, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t j = i; j < h.size(); ++j) {
        if (!std::isfinite(h(i, j))) finite = false;
      }
    }
  });
  return finite;
}

/// One run of rows.
struct Run {
  std::size_t size, block;
  ConstMatrixView coupling;  // L, or all of H_jk H_kk^-1; empty where it is zero
  bool both_ways;            // earlier columns feed back into later ones too
  const BlockRounding& rounding;
  std::size_t first_row;
  ConstMatrixView weights;
  MatrixView target, error, rounded;

  /// Feeds the errors of columns [from, from_end) into the targets of [to, to_end).
  void feed(std::size_t from, std::size_t from_end, std::size_t to, std::size_t to_end) {
    if (coupling.size() == 0) return;
    linalg::gemm_nn_add(error.col_range(from, from_end),
                        coupling.row_range(from, from_end).col_range(to, to_end),
                        target.col_range(to, to_end));
  }

  /// Columns [begin, end), whose targets have the feedback of all others that they get any from.
  void columns(std::size_t begin, std::size_t end) {
    const std::size_t group = rounding.group == 0 ? size : rounding.group;
    const bool one_group = end - begin <= group;  // cuts are at multiples of `group`
    if (one_group && rounding.begin_group && (begin % group == 0) &&
        (end == std::min(size, begin + group))) {
      rounding.begin_group(first_row, begin, target.col_range(begin, end));
      if (both_ways) take_errors(begin, end);
    }
    const std::size_t unit = one_group ? block : group;
    const std::size_t units = (end - begin + unit - 1) / unit;
    if (units == 1 && one_group) {
      round(begin, end);
      return;
    }
    const std::size_t middle = begin + units / 2 * unit;
    if (both_ways) feed(begin, middle, middle, end);
    columns(middle, end);
    feed(middle, end, begin, middle);
    columns(begin, middle);
  }

  void round(std::size_t begin, std::size_t end) {
    rounding.round(first_row, begin, target.col_range(begin, end), rounded.col_range(begin, end));
    take_errors(begin, end);
  }

  void take_errors(std::size_t begin, std::size_t end) {
    for (std::size_t i = 0; i < error.rows; ++i) {
      for (std::size_t j = begin; j < end; ++j) error(i, j) = weights(i, j) - rounded(i, j);
    }
  }
};

void for_runs(ConstMatrixView weights, std::size_t block, ConstMatrixView coupling, bool both_ways,
              const BlockRounding& rounding, MatrixView rounded, ThreadPool& pool) {
  const std::size_t n = weights.cols;
  rounding.runs.for_own(weights.rows, pool, [&](std::size_t begin, std::size_t end) {
    const ConstMatrixView w = weights.row_range(begin, end);
    const MatrixView value = rounded.row_range(begin, end);
    Matrix target(w.rows, n), error(w.rows, n);
    for (std::size_t i = 0; i < w.rows; ++i) {
      std::copy_n(w.row(i).begin(), n, target.row(i).begin());
    }
    Run run{n, block, coupling, both_ways, rounding, begin, w, target, error, value};
    if (both_ways) run.take_errors(0, n);
    run.columns(0, n);
  });
}

}  // namespace

Factor factor_hessian(const HessianView& h, std::size_t block, double damping, ThreadPool& pool) {
  const std::size_t n = h.size();
  Factor factor;
  factor.size = n;
  factor.block = block;
  factor.pivot.resize(n * block);
  if (n == 0) return factor;
  const std::vector<double> diagonal = live_diagonal(h);
  const double mean = mean_of(diagonal);
  const bool finite = all_finite(h, pool);
  for (double tried = damping; finite && tried <= std::max(1.0, damping);
       tried = std::max(kFirstDamping, 10 * tried)) {
    linalg::SquareMatrix work(n);
    parallel_for(pool, n, kRows, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        for (std::size_t j = 0; j < i; ++j) work(i, j) = h(i, j);
        work(i, i) = diagonal[i] + tried * mean;
      }
    });
    if (!linalg::block_ldl(work, block, pool)) continue;
    factor.damping = tried;
    factor.lower = Matrix(n, n);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t first = i / block * block;
      for (std::size_t j = 0; j < first; ++j) {
        factor.lower(i, j) = static_cast<float>(work(i, j));
      }
      for (std::size_t j = first; j < std::min(n, first + block); ++j) {
        factor.pivot[i * block + j - first] = work(i, j);
      }
    }
    return factor;
  }
  factor.damping = std::max(1.0, damping);
  factor.diagonal_only = true;
  for (std::size_t j = 0; j < n; ++j) factor.pivot[j * block + j % block] = diagonal[j];
  return factor;
}

Key damp_key() {
  return real_key("damp", "0.01", 0, 10, "calibrated: added to H's diagonal, relative to its mean");
}

Key order_key() {
  return choice_key("order", {"act", "none"},
                    "calibrated: columns of most energy first, or as they come");
}

std::shared_ptr<const Prepared> prepare_by_columns(const InputMoments& moments, const Spec& spec,
                                                   const PrepareContext& context) {
  return prepare_columns(moments.second, spec.real("damp"), spec.word("order") == "act",
                         spec.integer("sweeps") > 0, context.pool);
}

std::shared_ptr<const ColumnFeedback> prepare_columns(const linalg::SymmetricMatrix& h,
                                                      double damping, bool by_energy, bool descent,
                                                      ThreadPool& pool) {
  auto feedback = std::make_shared<ColumnFeedback>();
  const std::size_t n = h.size();
  const std::vector<double> diagonal = live_diagonal(h);
  if (by_energy) {
    feedback->order.resize(n);
    std::iota(feedback->order.begin(), feedback->order.end(), 0u);
    std::stable_sort(feedback->order.begin(), feedback->order.end(),
                     [&](std::size_t a, std::size_t b) { return diagonal[a] < diagonal[b]; });
  }
  feedback->factor = factor_hessian({h, feedback->order}, 1, damping, pool);
  if (descent) feedback->descent = prepare_descent(h, feedback->factor, pool);
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
  assert(weights.cols == factor.size && rounding.group % factor.block == 0);
  for_runs(weights, factor.block, factor.lower, false, rounding, rounded, pool);
}

void descend(ConstMatrixView weights, const Descent& descent, const BlockRounding& rounding,
             MatrixView rounded, ThreadPool& pool) {
  for_runs(weights, descent.block, descent.coupling, true, rounding, rounded, pool);
}

Descent prepare_descent(const HessianView& h, const Factor& factor, ThreadPool& pool) {
  linalg::keep_blas_single_threaded();
  const std::size_t n = factor.size, block = factor.block;
  Descent descent;
  descent.block = block;
  descent.metric.resize(n * block);
  std::vector<double> diagonal = live_diagonal(h);
  const double added = factor.diagonal_only ? 0 : factor.damping * mean_of(diagonal);
  for (double& d : diagonal) d += added;
  std::vector<double> inverse(n * block), pivot(block * block);  // of each H_kk
  for (std::size_t begin = 0; begin < n; begin += block) {
    const std::size_t end = std::min(n, begin + block), width = end - begin;
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t j = begin; j < end; ++j) {
        const double value = i == j ? diagonal[i] : factor.diagonal_only ? 0 : h(i, j);
        descent.metric[i * block + j - begin] = pivot[(i - begin) * width + j - begin] = value;
      }
      inverse[begin * block + (i - begin) * width + i - begin] = 1;
    }
    const auto w = static_cast<lapack_int>(width);
    if (LAPACKE_dposv_work(LAPACK_COL_MAJOR, 'U', w, w, pivot.data(), w, &inverse[begin * block],
                           w) != 0) {  // cannot be, since H was factored
      std::fill_n(inverse.begin() + begin * block, width * width, 0.0);
    }
  }
  if (factor.diagonal_only) return descent;

  std::atomic<bool> coupled = false;
  descent.coupling = Matrix(n, n);
  parallel_for(pool, n, kRows, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      for (std::size_t begin = 0; begin < n; begin += block) {
        const std::size_t end = std::min(n, begin + block), width = end - begin;
        if (i >= begin && i < end) continue;
        for (std::size_t j = 0; j < width; ++j) {
          double sum = 0;
          for (std::size_t k = 0; k < width; ++k) {
            sum += h(i, begin + k) * inverse[begin * block + k * width + j];
          }
          descent.coupling(i, begin + j) = static_cast<float>(sum);
          if (sum != 0) coupled = true;
        }
      }
    }
  });
  if (!coupled) descent.coupling = Matrix();
  return descent;
}

double Descent::form(std::size_t col, std::span<const float> e) const {
  double sum = 0;
  for (std::size_t i = 0; i < e.size(); ++i) {
    const double* row = metric.data() + (col + i) * block;
    double dot = 0;
    for (std::size_t j = 0; j < e.size(); ++j) dot += row[j] * e[j];
    sum += dot * e[i];
  }
  return sum;
}

std::vector<RowForms> row_forms(ConstMatrixView weights, ConstMatrixView rounded,
                                const Factor& factor, const RowRuns& runs, ThreadPool& pool) {
  std::vector<RowForms> forms(weights.rows);
  const std::size_t n = factor.size, block = factor.block;
  runs.for_own(weights.rows, pool, [&](std::size_t begin, std::size_t end) {
    // a H b' = (a L) D (b L)'
    const auto times_lower = [&](ConstMatrixView a) {
      Matrix product(end - begin, n);
      for (std::size_t i = begin; i < end; ++i) {
        std::copy_n(a.row(i).begin(), n, product.row(i - begin).begin());
      }
      if (factor.lower.size() != 0) {
        linalg::gemm_nn_add(a.row_range(begin, end), factor.lower, product);
      }
      return product;
    };
    const Matrix w = times_lower(weights), q = times_lower(rounded);
    for (std::size_t i = begin; i < end; ++i) {
      RowForms sums{0, 0};
      for (std::size_t j = 0; j < n; ++j) {
        const std::size_t first = j / block * block, last = std::min(n, first + block);
        double dot = 0;
        for (std::size_t k = first; k < last; ++k) {
          dot += factor.pivot[j * block + k - first] * q(i - begin, k);
        }
        sums.cross += dot * w(i - begin, j);
        sums.square += dot * q(i - begin, j);
      }
      forms[i] = sums;
    }
  });
  runs.merge(weights.rows, std::span(forms));
  return forms;
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
