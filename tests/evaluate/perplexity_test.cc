#include "squish/evaluate/perplexity.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "tests/evaluate/tiny_model.h"
#include "tests/kernels/forced_panels.h"

namespace squish::evaluate {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

model::Transformer load(const test::TinyModel& directory, ThreadPool& pool) {
  const io::ModelFiles files = io::open_model(directory.path());
  return model::load_transformer(files, pool);
}

Passage some_passage(std::size_t windows, std::size_t ctx, std::size_t first_scored) {
  const CounterRng random(5, "passage");
  Passage passage;
  passage.first_scored = first_scored;
  for (std::size_t w = 0; w < windows; ++w) {
    std::vector<model::TokenId> window(ctx);
    for (std::size_t i = 0; i < ctx; ++i) {
      window[i] = static_cast<model::TokenId>(random.below(w * ctx + i, test::TinyModel::kVocab));
    }
    passage.windows.push_back(window);
  }
  return passage;
}

/// log p(token) for every token at every scored position, in double precision.
std::vector<std::vector<double>> log_probabilities(const model::Transformer& model,
                                                   const Passage& passage, ThreadPool& pool) {
  std::vector<std::vector<double>> all;
  for (const auto& window : passage.windows) {
    model::KvCache cache(model.config, window.size());
    const Matrix states = model::forward(model, window, cache, pool);
    Matrix logits(window.size(), model.config.vocab);
    model::logits(model, states, logits, pool);
    for (std::size_t i = passage.first_scored; i + 1 < window.size(); ++i) {
      double sum = 0;
      for (const float x : logits.row(i)) sum += std::exp(static_cast<double>(x));
      std::vector<double> row;
      for (const float x : logits.row(i)) row.push_back(x - std::log(sum));
      all.push_back(row);
    }
  }
  return all;
}

TEST(Score, AgreesWithTheDefinitionsPositionByPosition) {
  ThreadPool pool(2);
  const test::TinyModel first(1), second(2);
  const model::Transformer reference = load(first, pool), candidate = load(second, pool);
  const Passage passage = some_passage(2, 24, 7);
  const model::Transformer* const candidates[] = {&candidate};
  int done = 0;
  const auto scores = score(reference, candidates, passage, pool, [&] { ++done; });
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_EQ(done, 4);

  const auto p = log_probabilities(reference, passage, pool),
             q = log_probabilities(candidate, passage, pool);
  ASSERT_EQ(scores[0].nll.size(), p.size());
  ASSERT_EQ(scores[1].kld.size(), p.size());
  const std::size_t per_window = passage.scored_per_window();
  std::size_t agreements = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const auto target = passage.windows[i / per_window][7 + i % per_window + 1];
    EXPECT_NEAR(scores[0].nll[i], -p[i][target], 1e-5);
    EXPECT_NEAR(scores[1].nll[i], -q[i][target], 1e-5);
    double divergence = 0;
    for (std::size_t t = 0; t < p[i].size(); ++t) {
      divergence += std::exp(p[i][t]) * (p[i][t] - q[i][t]);
    }
    EXPECT_NEAR(scores[1].kld[i], divergence, 1e-5);
    const bool agrees = std::max_element(p[i].begin(), p[i].end()) - p[i].begin() ==
                        std::max_element(q[i].begin(), q[i].end()) - q[i].begin();
    EXPECT_EQ(scores[1].agrees[i], agrees);
    agreements += agrees;
  }
  const Quality quality = summarise(scores[1], &scores[0]);
  EXPECT_DOUBLE_EQ(quality.divergence->top1_agreement,
                   static_cast<double>(agreements) / static_cast<double>(p.size()));
  EXPECT_GT(quality.divergence->kld_mean, 0.01);
}

TEST(Score, OfAModelAgainstItselfIsZeroDivergence) {
  ThreadPool pool(2);
  const model::Transformer model = load(test::TinyModel(), pool);
  const model::Transformer* const candidates[] = {&model};
  const auto scores = score(model, candidates, some_passage(1, 40, 0), pool, [] {});
  const Quality quality = summarise(scores[1], &scores[0]);
  EXPECT_EQ(quality.divergence->delta_nll, 0);
  EXPECT_LT(quality.divergence->kld_p99, 1e-7);
  EXPECT_EQ(quality.divergence->top1_agreement, 1);
}

TEST(Score, DoesNotDependOnTheNumberOfThreads) {
  ThreadPool one(1), four(4);
  const test::TinyModel first(1), second(2);
  const model::Transformer reference = load(first, one), candidate = load(second, one);
  const model::Transformer* const candidates[] = {&candidate};
  const Passage passage = some_passage(2, 60, 0);
  const auto a = score(reference, candidates, passage, one, [] {}),
             b = score(reference, candidates, passage, four, [] {});
  EXPECT_EQ(a[0].nll, b[0].nll);
  EXPECT_EQ(a[1].nll, b[1].nll);
  EXPECT_EQ(a[1].kld, b[1].kld);
}

TEST(Score, CountsPositionsThatAreNotFinite) {
  ThreadPool pool(2);
  const model::Transformer reference = load(test::TinyModel(), pool);
  model::Transformer candidate = load(test::TinyModel(), pool);
  candidate.norm[3] = NAN;
  const model::Transformer* const candidates[] = {&candidate};
  const auto scores = score(reference, candidates, some_passage(1, 20, 0), pool, [] {});
  EXPECT_EQ(scores[1].not_finite, 19u);
  EXPECT_THAT([&] { summarise(scores[1], &scores[0]); },
              ThrowsMessage<Error>(HasSubstr("19 of 19 scored positions have logits")));
  EXPECT_NO_THROW(summarise(scores[0], nullptr));
}

TEST(Score, ACandidateThatFailsDoesNotStopTheOthers) {
  ThreadPool pool(2);
  const test::TinyModel directory;
  const model::Transformer reference = load(directory, pool);
  model::Transformer broken = load(directory, pool);
  auto packed = std::make_shared<quant::Packed>(
      quant::quantize(Matrix(32, 32), quant::Spec::parse("int4"), {.pool = pool}));
  packed->sections.clear();
  broken.layers[1].q = model::packed_linear(packed, 0);
  const model::Transformer* const candidates[] = {&broken, &reference};
  const auto scores = score(reference, candidates, some_passage(2, 20, 0), pool, [] {});
  EXPECT_THAT([&] { summarise(scores[1], &scores[0]); },
              ThrowsMessage<Error>(HasSubstr("section 'q' is missing")));
  EXPECT_EQ(summarise(scores[2], &scores[0]).divergence->delta_nll, 0);
}

TEST(Summarise, IsTheMeanItsStandardErrorAndThe99thPercentile) {
  Scores reference{.nll = {1, 2, 3, 6}, .kld = {}, .agrees = {}, .error = {}};
  const Quality own = summarise(reference, nullptr);
  EXPECT_DOUBLE_EQ(own.nll, 3);
  EXPECT_DOUBLE_EQ(own.ppl, std::exp(3.0));
  EXPECT_DOUBLE_EQ(own.nll_se, std::sqrt((4 + 1 + 0 + 9) / 3.0 / 4));
  EXPECT_FALSE(own.divergence);
  const Scores alone{.nll = {2}, .kld = {}, .agrees = {}, .error = {}};
  EXPECT_TRUE(std::isnan(summarise(alone, nullptr).nll_se));

  // All worse by 0.5, so that the paired difference has no spread.
  Scores candidate{
      .nll = {1.5, 2.5, 3.5, 6.5}, .kld = {4, 1, 2, 3}, .agrees = {1, 0, 1, 1}, .error = {}};
  const Divergence divergence = *summarise(candidate, &reference).divergence;
  EXPECT_DOUBLE_EQ(divergence.delta_nll, 0.5);
  EXPECT_DOUBLE_EQ(divergence.delta_nll_se, 0);
  EXPECT_DOUBLE_EQ(divergence.kld_mean, 2.5);
  EXPECT_DOUBLE_EQ(divergence.kld_p99, 4);
  EXPECT_DOUBLE_EQ(divergence.top1_agreement, 0.75);

  Scores many;
  for (int i = 1; i <= 200; ++i) {
    many.nll.push_back(0);
    many.kld.push_back(201 - i);
    many.agrees.push_back(0);
  }
  EXPECT_EQ(summarise(many, &many).divergence->kld_p99, 198);
}

TEST(NoiseFloor, IsSmallAndLeavesTheInstructionSetAlone) {
  ThreadPool pool(2);
  const Isa before = active_isa();
  const kernels::ForcedPanels exact("f32");  // windows are decoded, this model is not
  const Divergence noise = noise_floor(load(test::TinyModel(), pool), some_passage(1, 90, 0), pool);
  EXPECT_EQ(active_isa(), before);
  EXPECT_LT(std::abs(noise.delta_nll), 1e-4);
  EXPECT_LT(noise.kld_mean, 1e-6);
  EXPECT_GT(noise.top1_agreement, 0.95);
}

}  // namespace
}  // namespace squish::evaluate
