// The scale in which QuIP# rounds, found again: the method on weights that are Gaussian already,
// over a range of scales.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "squish/linalg/hadamard.h"
#include "squish/quant/e8p.h"
#include "squish/quant/feedback.h"
#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

/// x, 8 floats a vector, rounded to the points of `bits` bits a weight.
std::vector<float> nearest(std::int64_t bits, const std::vector<float>& x) {
  const std::size_t count = x.size() / 8;
  const float rho = e8p_magnification(bits);
  const auto round = [&](const std::vector<float>& from) {
    std::vector<std::uint16_t> codes(count);
    std::vector<float> out(from.size());
    e8p_ops().nearest_e8p(e8p_table(), from.data(), count, codes.data());
    e8p_ops().expand_e8p(e8p_table(), codes.data(), count, out.data());
    return out;
  };
  std::vector<float> q = round(x);
  if (bits == 2) return q;
  std::vector<float> rest(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) rest[i] = rho * (x[i] - q[i]);
  if (bits == 4) {
    rest = round(rest);
  } else {
    std::vector<std::uint8_t> codes(count);
    e8p_ops().nearest_point(e81b_points(), rest.data(), count, codes.data());
    for (std::size_t i = 0; i < x.size(); ++i) rest[i] = e81b_points().point[codes[i / 8]][i % 8];
  }
  for (std::size_t i = 0; i < x.size(); ++i) q[i] += rest[i] / rho;
  return q;
}

/// Proxy loss of weights of root mean square `rms` after LDLQ, 5 sweeps of descent and the refit of
/// the scale.
double loss_at(double rms, std::int64_t bits, const InputMoments& moments, std::uint64_t seed) {
  ThreadPool pool(2);
  const std::size_t n = moments.second.size();
  const Matrix w = gaussian(128, n, seed, rms);
  const Factor factor = factor_hessian(moments.second, 8, 0.01, pool);
  const Descent descent = prepare_descent(moments.second, factor, pool);
  bool first = true;
  BlockRounding rounding;
  rounding.round = [&](std::size_t, std::size_t col, ConstMatrixView target, MatrixView value) {
    std::vector<float> x(8 * target.rows), now(8), then(8);
    for (std::size_t i = 0; i < target.rows; ++i) {
      std::copy(target.row(i).begin(), target.row(i).end(), x.begin() + 8 * i);
    }
    const std::vector<float> q = nearest(bits, x);
    for (std::size_t i = 0; i < target.rows; ++i) {
      for (std::size_t j = 0; j < 8; ++j) {
        now[j] = q[8 * i + j] - x[8 * i + j];
        then[j] = value(i, j) - x[8 * i + j];
      }
      if (first || descent.form(col, now) < descent.form(col, then)) {
        std::copy_n(q.begin() + 8 * i, 8, value.row(i).begin());
      }
    }
  };
  Matrix rounded(128, n);
  ldlq(w, factor, rounding, rounded, pool);
  first = false;
  for (int sweep = 0; sweep < 5; ++sweep) descend(w, descent, rounding, rounded, pool);
  double cross = 0, square = 0;
  for (const RowForms& forms : row_forms(w, rounded, factor, {}, pool)) {
    cross += forms.cross;
    square += forms.square;
  }
  for (std::size_t i = 0; i < rounded.size(); ++i) {
    rounded.data()[i] = static_cast<float>(rounded.data()[i] * cross / square);
  }
  return proxy_loss(w, rounded, moments.second, pool);
}

/// The moments of inputs that went through the transform: no column is special any more.
InputMoments rotated(const InputMoments& moments) {
  const std::size_t n = moments.second.size();
  Matrix h(n, n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) h(i, j) = static_cast<float>(moments.second(i, j));
  }
  std::vector<float> signs(n);
  for (std::size_t i = 0; i < n; ++i) signs[i] = CounterRng(1, "signs").bits(i) % 2 == 0 ? 1 : -1;
  ThreadPool pool(2);
  const linalg::Hadamard hadamard(n);
  hadamard.rotate_rows(h, signs, pool);
  hadamard.rotate_columns(h, signs, pool);
  InputMoments out = moments;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) out.second.at(i, j) = 0.5 * (double{h(i, j)} + h(j, i));
  }
  return out;
}

class QuipScale : public testing::TestWithParam<std::int64_t> {};

TEST_P(QuipScale, IsTheBestUnderAnyMoments) {
  constexpr std::uint64_t kSeeds = 4;  // single matrices scatter by 2 %
  const std::int64_t bits = GetParam();
  const double best = e8p_unit_rms(bits);
  for (const bool is_white : {false, true}) {
    const auto log_loss = [&](double rms) {
      double sum = 0;
      for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
        const InputMoments moments = is_white ? uncorrelated(256) : rotated(correlated(256, seed));
        sum += std::log(loss_at(rms, bits, moments, seed));
      }
      return sum / kSeeds;
    };
    const double chosen = log_loss(best);
    for (const double off : {-0.1, -0.05, 0.05, 0.1}) {
      EXPECT_GT(log_loss(best + off) - chosen, std::abs(off) < 0.07 ? -0.02 : 0.002) << best + off;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, QuipScale, testing::Values(2, 3, 4));

}  // namespace
}  // namespace squish::quant
