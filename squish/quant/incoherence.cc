#include "squish/quant/incoherence.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/base/random.h"
#include "squish/linalg/hadamard.h"

namespace squish::quant {
namespace {

/// Rows that one chunk of work takes: small matrices stay on one thread.
std::size_t grain(std::size_t cols) { return std::max<std::size_t>(1, 16384 / cols); }

Bytes random_signs(std::size_t n, std::uint64_t seed, const std::string& key) {
  const CounterRng rng(seed, key);
  Bytes signs(packed_bytes(n, 1));
  for (std::size_t i = 0; i < n; i += 64) {
    std::uint64_t word = rng.bits(i / 64);
    if (n - i < 64) word &= (std::uint64_t{1} << (n - i)) - 1;
    std::memcpy(signs.data() + i / 8, &word, std::min<std::size_t>(8, signs.size() - i / 8));
  }
  return signs;
}

}  // namespace

std::vector<float> diagonal(std::span<const std::byte> signs, std::size_t n, float scale) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) {
    const bool minus = (signs[i / 8] >> (i % 8) & std::byte{1}) != std::byte{0};
    values[i] = minus ? -scale : scale;
  }
  return values;
}

Bytes input_signs(std::size_t n, std::uint64_t seed, std::string_view name) {
  return random_signs(n, seed, std::string(name) + "/in");
}

Bytes output_signs(std::size_t n, std::uint64_t seed, std::string_view name) {
  return random_signs(n, seed, std::string(name) + "/out");
}

double root_mean_square(ConstMatrixView w, ThreadPool& pool) {
  std::vector<double> squares(w.rows);
  parallel_for(pool, w.rows, grain(w.cols), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::span<const float> row = w.row(i);
      double even = 0, odd = 0;  // a single chain of additions would wait for each
      std::size_t j = 0;
      for (; j + 2 <= row.size(); j += 2) {
        even += static_cast<double>(row[j]) * row[j];
        odd += static_cast<double>(row[j + 1]) * row[j + 1];
      }
      if (j < row.size()) even += static_cast<double>(row[j]) * row[j];
      squares[i] = even + odd;
    }
  });
  double sum = 0;
  for (const double square : squares) sum += square;
  return std::sqrt(sum / static_cast<double>(w.size()));
}

void rotate(ConstMatrixView weights, double unit, std::span<const std::byte> signs_in,
            std::span<const std::byte> signs_out, MatrixView rotated, ThreadPool& pool) {
  const double inverse = unit > 0 ? 1 / unit : 0;  // beyond floats where weights are denormal
  parallel_for(pool, weights.rows, grain(weights.cols), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t j = 0; j < weights.cols; ++j) {
        rotated(i, j) = static_cast<float>(weights(i, j) * inverse);
      }
    }
  });
  const std::size_t m = weights.rows, n = weights.cols;
  linalg::Hadamard(n).rotate_rows(rotated, diagonal(signs_in, n, 1), pool);
  linalg::Hadamard(m).rotate_columns(rotated, diagonal(signs_out, m, 1), pool);
}

void store_rotation(Bytes signs_in, Bytes signs_out, double scale, Packed& packed) {
  Bytes stored(4);
  const auto narrow = static_cast<float>(scale);
  std::memcpy(stored.data(), &narrow, 4);
  packed.sections.push_back({"signs_in", Part::other, std::move(signs_in)});
  packed.sections.push_back({"signs_out", Part::other, std::move(signs_out)});
  packed.sections.push_back({"scale", Part::scales, std::move(stored)});
}

StoredRotation::StoredRotation(const Packed& packed)
    : signs_in(packed.section("signs_in", packed_bytes(packed.cols, 1))),
      signs_out(packed.section("signs_out", packed_bytes(packed.rows, 1))) {
  std::memcpy(&scale, packed.section("scale", 4).data(), 4);
}

void StoredRotation::undo(MatrixView w, ThreadPool& pool) const {
  linalg::Hadamard(w.rows).unrotate_columns(w, diagonal(signs_out, w.rows, 1), pool);
  linalg::Hadamard(w.cols).unrotate_rows(w, diagonal(signs_in, w.cols, scale), pool);
}

std::shared_ptr<const RotatedInput> prepare_rotated(const InputMoments& moments, std::size_t block,
                                                    double damping, bool descent,
                                                    const PrepareContext& context) {
  auto prepared = std::make_shared<RotatedInput>();
  const std::size_t n = prepared->inputs = moments.second.size();
  prepared->signs_in = input_signs(n, context.seed, context.key);
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += moments.second(i, i);
  const double unit = std::isfinite(sum) && sum > 0 ? static_cast<double>(n) / sum : 1;
  // Floats will do: their error is below 1e-6 of the largest eigenvalue, which is below n times the
  // mean of the diagonal, and the damping is a hundredth of that mean.
  Matrix rotated(n, n);
  linalg::for_each_element(moments.second, [&](std::size_t i, std::size_t j, double value) {
    rotated(i, j) = static_cast<float>(value * unit);
  });
  const std::vector<float> signs = diagonal(prepared->signs_in, n, 1);
  const linalg::Hadamard hadamard(n);
  hadamard.rotate_rows(rotated, signs, context.pool);
  hadamard.rotate_columns(rotated, signs, context.pool);
  parallel_for(context.pool, n, 64, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {  // symmetric but for the order of its sums
      for (std::size_t j = 0; j < i; ++j) {
        rotated(i, j) = rotated(j, i) = 0.5f * (rotated(i, j) + rotated(j, i));
      }
    }
  });
  const HessianView h(rotated);
  prepared->factor = factor_hessian(h, block, damping, context.pool);
  prepared->damping = prepared->factor.damping;
  prepared->diagonal_only = prepared->factor.diagonal_only;
  if (descent) prepared->descent = prepare_descent(h, prepared->factor, context.pool);
  return prepared;
}

const RotatedInput* rotated_input(const EncodeContext& context, const Spec& spec,
                                  std::size_t block) {
  if (context.prepared == nullptr) return nullptr;
  const auto& prepared = prepared_as<RotatedInput>(context, spec);
  if (prepared.factor.block != block ||
      (spec.integer("sweeps") > 0 && prepared.descent.metric.empty())) {
    fail("the input's moments were not prepared for {}", spec.full());
  }
  return &prepared;
}

namespace {

double ratio_of(const std::vector<RowForms>& rows) {
  double cross = 0, square = 0;
  for (const RowForms& forms : rows) {
    cross += forms.cross;
    square += forms.square;
  }
  return cross > 0 && square > 0 ? cross / square : 1;
}

}  // namespace

double best_scale(ConstMatrixView weights, ConstMatrixView rounded, const Factor& factor,
                  const RowRuns& runs, ThreadPool& pool) {
  return ratio_of(row_forms(weights, rounded, factor, runs, pool));
}

double best_scale(ConstMatrixView weights, ConstMatrixView rounded, ThreadPool& pool) {
  std::vector<RowForms> rows(weights.rows);
  parallel_for(pool, weights.rows, grain(weights.cols), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t j = 0; j < weights.cols; ++j) {
        rows[i].cross += double{weights(i, j)} * rounded(i, j);
        rows[i].square += double{rounded(i, j)} * rounded(i, j);
      }
    }
  });
  return ratio_of(rows);
}

}  // namespace squish::quant
