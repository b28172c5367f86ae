#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "squish/base/matrix.h"
#include "squish/base/row_runs.h"
#include "squish/base/threads.h"
#include "squish/linalg/symmetric.h"
#include "squish/quant/quantizer.h"

/// Rounding with error feedback: the error of columns rounded so far is fed into those still to be
/// rounded, so that tr((W - What) H (W - What)') is small. LDLQ of QuIP (arXiv 2307.13304) in
/// blocks of any size; blocks of one column are GPTQ. How a block is rounded is the caller's.
namespace squish::quant {

/// A symmetric matrix that somebody else owns, of doubles or of floats, its rows and columns
/// perhaps in another order: copies of H are what preparing costs in memory.
class HessianView {
 public:
  HessianView(const linalg::SymmetricMatrix& h,  // NOLINT: implicit by design
              std::span<const std::uint32_t> order = {})
      : size_(h.size()), wide_(&h), order_(order) {}
  explicit HessianView(const Matrix& h) : size_(h.rows()), narrow_(h.data()) {}

  std::size_t size() const { return size_; }
  double operator()(std::size_t i, std::size_t j) const {
    if (!order_.empty()) i = order_[i], j = order_[j];
    return wide_ != nullptr ? (*wide_)(i, j) : double{narrow_[i * size_ + j]};
  }

 private:
  std::size_t size_;
  const linalg::SymmetricMatrix* wide_ = nullptr;
  const float* narrow_ = nullptr;
  std::span<const std::uint32_t> order_;
};

/// H + damping = L D L' in blocks of `block` columns (squish/linalg/ldl.h).
struct Factor {
  std::size_t size = 0, block = 1;
  Matrix lower;               ///< L without its unit diagonal blocks; empty where it is I
  std::vector<double> pivot;  ///< D: row i of its block's, `block` numbers
  /// Added to the diagonal, in units of its mean; more than asked for where that did not give a
  /// positive definite matrix.
  double damping = 0;
  /// No damping up to 1 did: H's diagonal alone, L = I.
  bool diagonal_only = false;
};

/// Damping rises tenfold up to 1 (from 0.001 if none is asked for) until H can be factored, then
/// only its diagonal is kept. Inputs that are always 0 (H_jj = 0), or whose H_jj is not a number,
/// get the mean of the others. Needs one more matrix of doubles besides L.
Factor factor_hessian(const HessianView& h, std::size_t block, double damping, ThreadPool& pool);

/// Sums over a row, under the damped H of the factor.
struct RowForms {
  double cross = 0;   ///< w H what'
  double square = 0;  ///< what H what'
};

/// For every row; the scale of that row of What that loses least is cross / square. `rounded` is
/// read in the rank's own runs.
std::vector<RowForms> row_forms(ConstMatrixView weights, ConstMatrixView rounded,
                                const Factor& factor, const RowRuns& runs, ThreadPool& pool);

/// What coordinate descent on blocks of columns needs of the same damped H.
struct Descent {
  std::size_t block = 1;
  Matrix coupling;             ///< H_jk H_kk^-1 for all blocks j != k; empty where they are zero
  std::vector<double> metric;  ///< the H_kk, as Factor::pivot has its D

  /// e H_kk e' for the error e of the columns from `col` on, as many as there are.
  double form(std::size_t col, std::span<const float> e) const;
};

/// `h` as its factor was made from (in any order of the columns).
Descent prepare_descent(const HessianView& h, const Factor& factor, ThreadPool& pool);

/// The Prepared of methods that round column by column.
struct ColumnFeedback : Prepared {
  Factor factor;  ///< of the columns as `order` has them
  /// order[k] is the k-th column; empty: as they come. The last is rounded first.
  std::vector<std::uint32_t> order;
  /// H_jj (0 where it is not positive) + the damping asked for, by column, relative to the mean;
  /// empty where all are equal.
  std::vector<float> weights;
  Descent descent;  ///< of the columns as they come; empty unless asked for
};

/// `by_energy`: columns in ascending order of H_jj, so that those that matter most are rounded
/// while all others can still make up for them. `descent`: for coordinate descent as well.
std::shared_ptr<const ColumnFeedback> prepare_columns(const linalg::SymmetricMatrix& h,
                                                      double damping, bool by_energy, bool descent,
                                                      ThreadPool& pool);

/// The keys of methods with feedback: `damp`, and `order` of those that round column by column.
Key damp_key();
Key order_key();
/// Method::prepare of these: prepare_columns() by the keys damp, order and sweeps.
std::shared_ptr<const Prepared> prepare_by_columns(const InputMoments& moments, const Spec& spec,
                                                   const PrepareContext& context);

/// How blocks of columns are rounded. Calls for different rows come from different threads.
struct BlockRounding {
  RowRuns runs;
  /// Columns begin_group() is called for at a time, a multiple of the factor's block; 0: all.
  std::size_t group = 0;
  /// Called for the last group first, before the blocks in it: `targets` are the group's columns of
  /// some rows, with the feedback of all later groups. May be null.
  std::function<void(std::size_t first_row, std::size_t first_col, ConstMatrixView targets)>
      begin_group;
  /// Writes the value that `target` (a block of columns of some rows) is rounded to.
  std::function<void(std::size_t first_row, std::size_t first_col, ConstMatrixView target,
                     MatrixView rounded)>
      round;
};

/// Block by block from the last to the first, T_k = W_k + sum over later j of (W_j - What_j) L_jk,
/// What_k = round(T_k). `rounded` becomes What, in the rank's own runs. Columns are halved
/// recursively, so that nearly all of the feedback is large matrix products.
void ldlq(ConstMatrixView weights, const Factor& factor, const BlockRounding& rounding,
          MatrixView rounded, ThreadPool& pool);

/// One sweep of coordinate descent, block by block from the last to the first: T_k is where the
/// loss would be least given all other columns of What as they are. `rounded` holds What; round()
/// finds the block's current value there and may leave it, begin_group() may change the values of
/// its columns; its targets lack the feedback among these. Runs of rows as in ldlq().
void descend(ConstMatrixView weights, const Descent& descent, const BlockRounding& rounding,
             MatrixView rounded, ThreadPool& pool);

/// tr((W - What) H (W - What)') / tr(W H W'): the share of the layer's output energy that is lost.
/// 0 where both traces are 0.
double proxy_loss(ConstMatrixView weights, ConstMatrixView rounded,
                  const linalg::SymmetricMatrix& h, ThreadPool& pool);

}  // namespace squish::quant
