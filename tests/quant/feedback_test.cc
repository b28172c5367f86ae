#include "squish/quant/feedback.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "tests/quant/methods.h"

namespace squish::quant {
namespace {

float to_grid(float x, float step) { return step * std::nearbyint(x / step); }

BlockRounding nearest(float step) {
  BlockRounding rounding;
  rounding.round = [step](std::size_t, std::size_t, ConstMatrixView target, MatrixView rounded) {
    for (std::size_t i = 0; i < target.rows; ++i) {
      for (std::size_t j = 0; j < target.cols; ++j) {
        rounded(i, j) = to_grid(target(i, j), step);
      }
    }
  };
  return rounding;
}

/// LDLQ as it is written: T_k = W_k + sum over later j of (W_j - What_j) L_jk.
Matrix reference_ldlq(const Matrix& w, const Factor& factor, float step) {
  const std::size_t n = w.cols(), block = factor.block;
  Matrix out(w.rows(), n);
  for (std::size_t i = 0; i < w.rows(); ++i) {
    for (std::size_t k = (n + block - 1) / block; k-- > 0;) {
      const std::size_t begin = k * block, end = std::min(n, begin + block);
      for (std::size_t c = begin; c < end; ++c) {
        double target = w(i, c);
        for (std::size_t j = end; j < n; ++j) {
          target += (double{w(i, j)} - out(i, j)) * factor.lower(j, c);
        }
        out(i, c) = to_grid(static_cast<float>(target), step);
      }
    }
  }
  return out;
}

double share_equal(const Matrix& a, const Matrix& b) {
  std::size_t equal = 0;
  for (std::size_t i = 0; i < a.size(); ++i) equal += a.data()[i] == b.data()[i];
  return static_cast<double>(equal) / static_cast<double>(a.size());
}

TEST(Ldlq, IsTheLoopAsItIsWritten) {
  ThreadPool pool(2);
  for (const std::size_t block : {1, 3, 8}) {
    for (const std::size_t n : {1, 7, 100}) {
      const InputMoments moments = correlated(n);
      const Factor factor = factor_hessian(moments.second, block, 0.01, pool);
      const Matrix w = gaussian(70, n, 1, 1);
      Matrix rounded(70, n);
      ldlq(w, factor, nearest(0.5f), rounded, pool);
      // Sums in another order may tip a weight to the other side, and then those before it.
      EXPECT_GT(share_equal(rounded, reference_ldlq(w, factor, 0.5f)), 0.97) << block << ", " << n;
    }
  }
}

TEST(Ldlq, LowersTheProxyLossAndMoreSoWithSmallerBlocks) {
  const InputMoments moments = correlated(200);
  const Matrix w = gaussian(64, 200, 1, 1);
  ThreadPool pool(2);
  std::vector<double> losses;
  Matrix rounded(64, 200);
  for (const std::size_t block : {1, 8, 200}) {  // one block of all: no feedback
    ldlq(w, factor_hessian(moments.second, block, 0.01, pool), nearest(0.5f), rounded, pool);
    losses.push_back(proxy_loss(w, rounded, moments.second, pool));
  }
  EXPECT_LT(losses[0], losses[1]);
  EXPECT_LT(losses[1], 0.7 * losses[2]);
}

TEST(Ldlq, RoundsToNearestUnderTheIdentity) {
  linalg::SymmetricMatrix identity(90);
  for (std::size_t j = 0; j < 90; ++j) identity.at(j, j) = 3;
  const Matrix w = gaussian(20, 90, 1, 1);
  Matrix rounded(20, 90);
  ThreadPool pool(1);
  ldlq(w, factor_hessian(identity, 8, 0.01, pool), nearest(0.25f), rounded, pool);
  for (std::size_t i = 0; i < w.size(); ++i) {
    ASSERT_EQ(rounded.data()[i], to_grid(w.data()[i], 0.25f));
  }
}

TEST(Ldlq, GivesTheSameOnAnyNumberOfThreads) {
  ThreadPool pool(2);
  const InputMoments moments = correlated(130);
  const Factor factor = factor_hessian(moments.second, 8, 0.01, pool);
  const Matrix w = gaussian(300, 130, 1, 1);
  Matrix first(300, 130);
  ThreadPool one(1), three(3);
  ldlq(w, factor, nearest(0.5f), first, one);
  Matrix second(300, 130);
  ldlq(w, factor, nearest(0.5f), second, three);
  EXPECT_EQ(std::memcmp(first.data(), second.data(), 4 * w.size()), 0);
}

TEST(Ldlq, BeginsEachGroupBeforeItsBlocksAndAfterAllLaterOnes) {
  ThreadPool pool(1);
  const std::size_t n = 50, group = 16;
  const Factor factor = factor_hessian(correlated(n).second, 4, 0.01, pool);
  const Matrix w = gaussian(21, n, 1, 1);
  std::mutex mutex;
  std::vector<std::size_t> groups, blocks;
  BlockRounding rounding = nearest(0.5f);
  rounding.runs.multiple = 7;
  rounding.group = group;
  const auto round = rounding.round;
  Matrix expected_targets(21, n), rounded(21, n);
  rounding.begin_group = [&](std::size_t row, std::size_t col, ConstMatrixView targets) {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(row % 7, 0u);
    EXPECT_EQ(targets.cols, std::min(group, n - col));
    if (row == 0) groups.push_back(col);
    EXPECT_EQ(blocks.empty() ? n : blocks.back(), std::min(n, col + group));
    for (std::size_t i = 0; i < targets.rows; ++i) {
      for (std::size_t c = 0; c < targets.cols; ++c) {
        double target = w(row + i, col + c);
        for (std::size_t j = col + targets.cols; j < n; ++j) {
          target += (double{w(row + i, j)} - rounded(row + i, j)) * factor.lower(j, col + c);
        }
        EXPECT_NEAR(targets(i, c), target, 1e-4);
      }
    }
  };
  rounding.round = [&](std::size_t row, std::size_t col, ConstMatrixView target, MatrixView out) {
    blocks.push_back(col);
    round(row, col, target, out);
  };
  ldlq(w, factor, rounding, rounded, pool);
  EXPECT_EQ(groups, (std::vector<std::size_t>{48, 32, 16, 0}));
}

TEST(Descend, NeverRaisesTheLossOfScalarRoundingAndLowersThatOfLdlq) {
  ThreadPool pool(2);
  const InputMoments moments = correlated(100);
  const Matrix w = gaussian(70, 100, 1, 1);
  const Factor factor = factor_hessian(moments.second, 1, 0.01, pool);
  const Descent descent = prepare_descent(moments.second, factor, pool);
  linalg::SymmetricMatrix damped = moments.second;
  double mean = 0;
  for (std::size_t j = 0; j < 100; ++j) mean += damped(j, j) / 100;
  for (std::size_t j = 0; j < 100; ++j) damped.at(j, j) += 0.01 * mean;
  Matrix rounded(70, 100);
  ldlq(w, factor, nearest(0.5f), rounded, pool);
  const double start = proxy_loss(w, rounded, damped, pool);
  double before = start;
  for (int sweep = 0; sweep < 5; ++sweep) {
    descend(w, descent, nearest(0.5f), rounded, pool);
    const double after = proxy_loss(w, rounded, damped, pool);
    EXPECT_LE(after, before * (1 + 1e-6));
    before = after;
  }
  EXPECT_LT(before, 0.97 * start);
}

TEST(Descend, AimsWhereTheLossIsLeast) {
  ThreadPool pool(1);
  const std::size_t n = 20, block = 8;
  const InputMoments moments = correlated(n);
  const Matrix w = gaussian(3, n, 1, 1), start = gaussian(3, n, 2, 1);
  const Factor factor = factor_hessian(moments.second, block, 0, pool);
  const Descent descent = prepare_descent(moments.second, factor, pool);
  Matrix rounded = start;
  BlockRounding exact;  // of the last block alone
  exact.round = [&](std::size_t, std::size_t col, ConstMatrixView target, MatrixView out) {
    EXPECT_EQ(out(1, 0), start(1, col));
    for (std::size_t i = 0; i < target.rows && col == 16; ++i) {
      std::copy(target.row(i).begin(), target.row(i).end(), out.row(i).begin());
    }
  };
  descend(w, descent, exact, rounded, pool);
  for (std::size_t i = 0; i < 3; ++i) {  // the gradient of the loss is zero there
    for (std::size_t c = 16; c < n; ++c) {
      double gradient = 0;
      for (std::size_t j = 0; j < n; ++j) {
        gradient += (double{w(i, j)} - rounded(i, j)) * moments.second(j, c);
      }
      EXPECT_NEAR(gradient, 0, 1e-4);
    }
  }
}

TEST(RowForms, GiveTheScaleThatLosesLeast) {
  for (const std::size_t block : {1, 8}) {
    const InputMoments moments = correlated(30);
    const Matrix w = gaussian(70, 30, 1, 1), q = gaussian(70, 30, 2, 1);
    ThreadPool pool(2);
    const auto forms = row_forms(w, q, factor_hessian(moments.second, block, 0, pool), {}, pool);
    for (const std::size_t r : {0, 69}) {
      double cross = 0, square = 0;
      for (std::size_t i = 0; i < 30; ++i) {
        for (std::size_t j = 0; j < 30; ++j) {
          cross += w(r, i) * moments.second(i, j) * q(r, j);
          square += q(r, i) * moments.second(i, j) * q(r, j);
        }
      }
      EXPECT_NEAR(forms[r].cross, cross, 1e-5 * square);
      EXPECT_NEAR(forms[r].square, square, 1e-5 * square);
    }
  }
}

TEST(FactorHessian, RaisesTheDampingUntilItSucceeds) {
  ThreadPool pool(2);
  const InputMoments moments = correlated(40);
  EXPECT_EQ(factor_hessian(moments.second, 1, 0.01, pool).damping, 0.01);

  linalg::SymmetricMatrix ones(40);  // of rank 1
  for (std::size_t i = 0; i < 1600; ++i) ones.at(i / 40, i % 40) = 1;
  const Factor singular = factor_hessian(ones, 8, 0, pool);
  EXPECT_EQ(singular.damping, 0.001);
  EXPECT_FALSE(singular.diagonal_only);

  linalg::SymmetricMatrix indefinite = moments.second;
  indefinite.at(3, 4) = indefinite.at(4, 3) = 1.05 * std::sqrt(indefinite(3, 3) * indefinite(4, 4));
  const Factor raised = factor_hessian(indefinite, 1, 0.001, pool);
  EXPECT_GT(raised.damping, 0.001);
  EXPECT_FALSE(raised.diagonal_only);
}

TEST(FactorHessian, FallsBackToTheDiagonal) {
  ThreadPool pool(1);
  linalg::SymmetricMatrix hopeless = correlated(20).second;
  hopeless.at(3, 4) = hopeless.at(4, 3) = 100 * hopeless(3, 3);
  linalg::SymmetricMatrix broken = correlated(20).second;
  broken.at(2, 1) = broken.at(1, 2) = std::numeric_limits<double>::quiet_NaN();
  broken.at(5, 5) = std::numeric_limits<double>::infinity();
  for (const auto& h : {hopeless, broken}) {
    const Factor factor = factor_hessian(h, 1, 0.01, pool);
    EXPECT_TRUE(factor.diagonal_only);
    EXPECT_EQ(factor.size, 20u);
    EXPECT_EQ(factor.lower.size(), 0u);
    const Matrix w = gaussian(5, 20, 1, 1);
    Matrix rounded(5, 20);
    ldlq(w, factor, nearest(0.5f), rounded, pool);
    EXPECT_EQ(rounded(4, 7), to_grid(w(4, 7), 0.5f));
  }
}

TEST(FactorHessian, TakesInputsThatAreAlwaysZero) {
  ThreadPool pool(2);
  linalg::SymmetricMatrix h = correlated(20).second;
  for (std::size_t j = 0; j < 20; ++j) h.at(6, j) = h.at(j, 6) = 0;
  const Factor factor = factor_hessian(h, 1, 0, pool);
  EXPECT_EQ(factor.damping, 0);
  for (std::size_t j = 0; j < 6; ++j) EXPECT_EQ(factor.lower(6, j), 0);
  EXPECT_FALSE(factor_hessian(linalg::SymmetricMatrix(20), 1, 0.01, pool).diagonal_only);
}

TEST(ProxyLoss, IsTheShareOfTheOutputsEnergy) {
  const InputMoments moments = correlated(20);
  const Matrix w = gaussian(5, 20, 1, 1);
  Matrix half = w;
  for (std::size_t i = 0; i < w.size(); ++i) half.data()[i] *= 0.5f;
  ThreadPool pool(1);
  EXPECT_NEAR(proxy_loss(w, half, moments.second, pool), 0.25, 1e-12);
  EXPECT_EQ(proxy_loss(w, w, moments.second, pool), 0);
}

}  // namespace
}  // namespace squish::quant
