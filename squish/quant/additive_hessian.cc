#include "squish/quant/additive_hessian.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "squish/linalg/gemm.h"

namespace squish::quant {
namespace {

constexpr std::size_t kColumns = 64;  // columns whose gradient is computed in one product
constexpr std::size_t kParts = 8;     // partial sums, whatever the number of threads
constexpr int kGradientSteps = 8;     // of conjugate gradients, in each round
// Added to the diagonal of a group's block of H, relative to the mean of H's diagonal: a step of
// the codes is then a proximal one where the block is singular, and still lowers the loss.
constexpr double kProximal = 1e-4;
// Inputs below this share of the mean have gradients that are rounding errors of the others'.
constexpr double kLeastInput = 1e-12;
constexpr std::size_t kGrain = 16;  // rows a task

double dot(std::span<const float> a, std::span<const float> b) {
  double even = 0, odd = 0;
  std::size_t j = 0;
  for (; j + 2 <= a.size(); j += 2) {
    even += double{a[j]} * b[j];
    odd += double{a[j + 1]} * b[j + 1];
  }
  return j < a.size() ? even + odd + double{a[j]} * b[j] : even + odd;
}

double inner(const Matrix& a, const Matrix& b, ThreadPool& pool) {
  std::vector<double> sums(a.rows());  // added up in their order, whatever the number of threads
  parallel_for(pool, a.rows(), kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) sums[i] = dot(a.row(i), b.row(i));
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

/// All the state of the alternation; the residual E = W - What is kept in step with the code.
class Refinement {
 public:
  Refinement(const Matrix& metric, ConstMatrixView weights, const VectorLayout& layout,
             const AdditiveOptions& options, AdditiveCode& code, ThreadPool& pool)
      : h_(metric),
        w_(weights),
        layout_(layout),
        options_(options),
        code_(code),
        pool_(pool),
        books_(code.books.size()),
        rest_(weights.rows, weights.cols),
        product_(weights.rows, weights.cols) {
    for (const Codebook& book : code.books) {
      offsets_.push_back(values_);
      values_ += book.values.size();
    }
    update_rest();
    factor_blocks();
  }

  double loss() {
    linalg::gemm_nt(rest_, h_, product_, pool_);
    return inner(rest_, product_, pool_);
  }

  /// A few steps of conjugate gradients on the codebooks, from where they are.
  void fit_codebooks() {
    const std::vector<double> inverse = preconditioner();
    std::vector<double> residual = scatter(rest_), direction(residual.size());
    const auto scaled_square = [&] {
      double sum = 0;
      for (std::size_t i = 0; i < residual.size(); ++i)
        sum += inverse[i] * residual[i] * residual[i];
      return sum;
    };
    double now = scaled_square(), before = now;
    const double enough = 1e-6 * now;
    std::vector<Codebook> step = code_.books;
    Matrix change(w_.rows, w_.cols);
    for (int k = 0; k < kGradientSteps && now > enough; ++k) {
      const double keep = k == 0 ? 0 : now / before;
      for (std::size_t i = 0; i < residual.size(); ++i) {
        direction[i] = inverse[i] * residual[i] + keep * direction[i];
      }
      for_values(step,
                 [&](std::size_t i, float& value) { value = static_cast<float>(direction[i]); });
      expand(step, change);
      const std::vector<double> image = scatter(change);
      const double curvature = inner(change, product_, pool_);  // product_ = change H
      if (!(curvature > 0)) return;
      const double length = now / curvature;
      for_values(code_.books, [&](std::size_t i, float& value) {
        value += static_cast<float>(length * direction[i]);
      });
      for (std::size_t i = 0; i < residual.size(); ++i) residual[i] -= length * image[i];
      before = now;
      now = scaled_square();
    }
    update_rest();
  }

  /// s <- s (w H what') / (what H what') for every row; rows where that is not positive keep
  /// theirs.
  void fit_scales() {
    Matrix what(w_.rows, w_.cols);
    expand(code_.books, what);
    linalg::gemm_nt(what, h_, product_, pool_);
    parallel_for(pool_, w_.rows, kGrain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const double up = dot(w_.row(i), product_.row(i));
        const double down = dot(what.row(i), product_.row(i));
        if (up > 0 && down > 0) {
          code_.scales[i] *= static_cast<float>(std::min(up / down, kMostGrowth));
        }
      }
    });
    update_rest();
  }

  /// One pass over the groups of all rows.
  void search_codes() {
    const std::size_t dim = layout_.dim, per = std::max<std::size_t>(1, kColumns / dim);
    for (std::size_t first = 0; first < layout_.blocks(); first += per) {
      const std::size_t last = std::min(first + per, layout_.blocks());
      const std::size_t begin = first * dim, end = std::min(last * dim, w_.cols);
      Matrix gradient(w_.rows, end - begin);  // E H, of these columns
      const ConstMatrixView h(h_.data() + begin * h_.cols(), end - begin, h_.cols());
      linalg::gemm_nt(rest_, h, gradient, pool_);
      for (std::size_t group = first; group < last; ++group) search_group(group, begin, gradient);
    }
  }

  /// Books and scales as f16 will hold them.
  void round_books() {
    round_codebooks(code_.books);
    update_rest();
  }
  void round_row_scales() {
    code_.gain = round_scales(code_.scales);
    update_rest();
  }

 private:
  static constexpr double kMostGrowth = 4;

  std::size_t width(std::size_t group) const {
    return std::min(layout_.dim, w_.cols - group * layout_.dim);
  }
  const std::uint32_t* codes(std::size_t group, std::size_t row) const {
    return code_.codes.data() + (group * w_.rows + row) * books_;
  }

  template <class Body>
  static void for_values(std::vector<Codebook>& books, const Body& body) {
    std::size_t at = 0;
    for (Codebook& book : books) {
      for (float& value : book.values) body(at++, value);
    }
  }

  /// Scale times the sums of entries, for the codes as they are.
  void expand(const std::vector<Codebook>& books, Matrix& out) const {
    parallel_for(pool_, w_.rows, kGrain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t row = begin; row < end; ++row) {
        for (std::size_t group = 0; group < layout_.blocks(); ++group) {
          const std::uint32_t* code = codes(group, row);
          float* to = &out(row, group * layout_.dim);
          for (std::size_t d = 0; d < width(group); ++d) {
            float sum = 0;
            for (std::size_t m = 0; m < books_; ++m) sum += books[m][code[m]][d];
            to[d] = code_.scales[row] * sum;
          }
        }
      }
    });
  }

  void update_rest() {
    expand(code_.books, rest_);
    parallel_for(pool_, w_.rows, kGrain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t row = begin; row < end; ++row) {
        for (std::size_t j = 0; j < w_.cols; ++j) rest_(row, j) = w_(row, j) - rest_(row, j);
      }
    });
  }

  /// Lower Cholesky factors of the groups' blocks of H + kProximal I.
  void factor_blocks() {
    const std::size_t dim = layout_.dim;
    factors_.assign(layout_.blocks() * dim * dim, 0);
    for (std::size_t group = 0; group < layout_.blocks(); ++group) {
      double* l = &factors_[group * dim * dim];
      const std::size_t at = group * dim;
      for (std::size_t j = 0; j < width(group); ++j) {
        for (std::size_t i = j; i < width(group); ++i) {
          double sum = double{h_(at + i, at + j)} + (i == j ? kProximal : 0);
          for (std::size_t k = 0; k < j; ++k) sum -= l[i * dim + k] * l[j * dim + k];
          // Rounding to floats may have cost H its definiteness.
          l[i * dim + j] = i == j ? std::sqrt(std::max(sum, kProximal)) : sum / l[j * dim + j];
        }
      }
    }
  }

  /// v <- L' v.
  void to_metric(std::size_t group, const float* v, float* out) const {
    const std::size_t dim = layout_.dim;
    const double* l = &factors_[group * dim * dim];
    for (std::size_t d = 0; d < width(group); ++d) {
      double sum = 0;
      for (std::size_t e = d; e < width(group); ++e) sum += l[e * dim + d] * v[e];
      out[d] = static_cast<float>(sum);
    }
  }

  /// The best sums for one group of every row, in coordinates in which H's block is the identity:
  /// minimising over v the loss of E with the group's entry o replaced by v is finding what is
  /// nearest to L' o + L^-1 (E H)_group / s among L' v.
  void search_group(std::size_t group, std::size_t first_column, Matrix& gradient) {
    const std::size_t dim = layout_.dim, wide = width(group), rows = w_.rows;
    const double* l = &factors_[group * dim * dim];
    const std::size_t at = group * dim - first_column;
    std::vector<Codebook> books;
    for (const Codebook& book : code_.books) {
      Codebook& turned = books.emplace_back(wide, book.size);
      for (std::size_t c = 0; c < book.size; ++c) to_metric(group, book[c], turned[c]);
    }
    VectorSet set;
    set.dim = wide;
    set.short_begin = rows;
    set.values.resize(rows * wide);
    set.weights.resize(rows);
    Matrix old(rows, wide);  // sums of entries before the search
    parallel_for(pool_, rows, kGrain, [&](std::size_t begin, std::size_t end) {
      std::vector<double> solved(wide);
      for (std::size_t row = begin; row < end; ++row) {
        sum_entries(group, row, old.row(row).data());
        const float scale = code_.scales[row];
        if (!(scale > 0)) continue;
        set.weights[row] = 1;
        float* value = set.values.data() + row * wide;
        to_metric(group, old.row(row).data(), value);
        for (std::size_t d = 0; d < wide; ++d) {
          double sum = double{gradient(row, at + d)} / scale;
          for (std::size_t e = 0; e < d; ++e) sum -= l[d * dim + e] * solved[e];
          solved[d] = sum / l[d * dim + d];
          value[d] += static_cast<float>(solved[d]);
        }
      }
    });
    Codes found(code_.codes.begin() + group * rows * books_,
                code_.codes.begin() + (group + 1) * rows * books_);
    beam_search(set, books, options_.beam, false, found, pool_);
    std::copy(found.begin(), found.end(), code_.codes.begin() + group * rows * books_);

    parallel_for(pool_, rows, kGrain, [&](std::size_t begin, std::size_t end) {
      std::vector<float> now(wide);
      for (std::size_t row = begin; row < end; ++row) {
        sum_entries(group, row, now.data());
        for (std::size_t d = 0; d < wide; ++d) {
          const float change = code_.scales[row] * (now[d] - old(row, d));
          if (change == 0) continue;
          rest_(row, group * dim + d) -= change;
          const float* h = h_.data() + (group * dim + d) * h_.cols() + first_column;
          for (std::size_t j = at + wide; j < gradient.cols(); ++j)
            gradient(row, j) -= change * h[j];
        }
      }
    });
  }

  void sum_entries(std::size_t group, std::size_t row, float* out) const {
    std::fill_n(out, width(group), 0.0f);
    const std::uint32_t* code = codes(group, row);
    for (std::size_t m = 0; m < books_; ++m) {
      for (std::size_t d = 0; d < width(group); ++d) out[d] += code_.books[m][code[m]][d];
    }
  }

  /// Calls add(sums, group, row) for all vectors, with the sums of one of kParts runs of rows.
  template <class Add>
  std::vector<double> sum_into_books(const Add& add) const {
    std::vector<std::vector<double>> parts(kParts);
    parallel_for(pool_, kParts, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t part = begin; part < end; ++part) {
        parts[part].assign(values_, 0);
        for (std::size_t row = part * w_.rows / kParts; row < (part + 1) * w_.rows / kParts;
             ++row) {
          for (std::size_t group = 0; group < layout_.blocks(); ++group) {
            add(parts[part], group, row);
          }
        }
      }
    });
    for (std::size_t part = 1; part < kParts; ++part) {
      for (std::size_t i = 0; i < parts[0].size(); ++i) parts[0][i] += parts[part][i];
    }
    return std::move(parts[0]);
  }

  /// The adjoint of expand() on x H; leaves x H in product_.
  std::vector<double> scatter(const Matrix& x) {
    linalg::gemm_nt(x, h_, product_, pool_);
    return sum_into_books([&](std::vector<double>& sums, std::size_t group, std::size_t row) {
      const float* from = &product_(row, group * layout_.dim);
      for (std::size_t m = 0; m < books_; ++m) {
        double* to = &sums[offsets_[m] + codes(group, row)[m] * layout_.dim];
        for (std::size_t d = 0; d < width(group); ++d) to[d] += double{code_.scales[row]} * from[d];
      }
    });
  }

  /// The inverse of the diagonal of the normal equations, zero for entries without vectors.
  std::vector<double> preconditioner() const {
    std::vector<double> diagonal =
        sum_into_books([&](std::vector<double>& sums, std::size_t group, std::size_t row) {
          const double square = double{code_.scales[row]} * code_.scales[row];
          for (std::size_t m = 0; m < books_; ++m) {
            double* to = &sums[offsets_[m] + codes(group, row)[m] * layout_.dim];
            for (std::size_t d = 0; d < width(group); ++d) {
              const std::size_t j = group * layout_.dim + d;
              to[d] += square * std::max(double{h_(j, j)}, kLeastInput);
            }
          }
        });
    for (double& value : diagonal) value = value > 0 ? 1 / value : 0;
    return diagonal;
  }

  const Matrix& h_;
  ConstMatrixView w_;
  const VectorLayout& layout_;
  const AdditiveOptions& options_;
  AdditiveCode& code_;
  ThreadPool& pool_;
  std::size_t books_;
  Matrix rest_, product_;
  std::vector<double> factors_;
  std::vector<std::size_t> offsets_;  // where each book's values begin among all
  std::size_t values_ = 0;            // of all books
};

}  // namespace

Matrix relative_metric(const linalg::SymmetricMatrix& second) {
  const std::size_t n = second.size();
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += second(i, i) / static_cast<double>(n);
  Matrix metric(n, n);
  // Smaller ones have lost their digits.
  constexpr double kLeastMean = std::numeric_limits<double>::min() / 1e-16;
  const bool usable = std::isfinite(mean) && mean > kLeastMean;
  linalg::for_each_element(second, [&](std::size_t i, std::size_t j, double value) {
    if (!usable) {
      metric(i, j) = i == j ? 1.0f : 0.0f;
    } else {
      // No two inputs share more than all of both; what sums have lost by rounding is no concern.
      const double most =
          1.000001 * std::sqrt(std::max(second(i, i), 0.0) * std::max(second(j, j), 0.0));
      metric(i, j) =
          static_cast<float>(std::isnan(value) ? 0 : std::clamp(value, -most, most) / mean);
    }
  });
  return metric;
}

void refine_under(const Matrix& metric, ConstMatrixView weights, const VectorLayout& layout,
                  const AdditiveOptions& options, AdditiveCode& code, ThreadPool& pool) {
  Refinement state(metric, weights, layout, options, code, pool);
  const bool learn = options.books.empty();
  double before = state.loss();
  for (int round = 0; round < options.rounds; ++round) {
    if (learn) state.fit_codebooks();
    state.fit_scales();
    state.search_codes();
    const double now = state.loss();
    if (!(now < before * (1 - options.tolerance))) break;
    before = now;
  }
  if (learn) state.fit_codebooks();
  if (learn) state.round_books();
  state.search_codes();
  state.fit_scales();
  state.round_row_scales();
  const auto is_finite = [](float x) { return std::isfinite(x); };
  if (!std::ranges::all_of(code.scales, is_finite) ||
      !std::ranges::all_of(code.books, [&](const Codebook& book) {
        return std::ranges::all_of(book.values, is_finite);
      })) {
    fail("its input's second moments are those of no vectors: not positive semidefinite");
  }
}

}  // namespace squish::quant
