#include "squish/compress/sequential.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "squish/base/error.h"
#include "squish/base/random.h"
#include "squish/compress/calibration.h"
#include "tests/compress/calibrate.h"
#include "tests/evaluate/tiny_model.h"
#include "tests/io/writers.h"
#include "tests/model/recording_linear.h"

namespace squish::compress {
namespace {

using Windows = std::vector<std::vector<model::TokenId>>;
using test::record;
using test::Rows;

Windows random_windows(std::size_t count, std::size_t length) {
  const CounterRng random(3, "windows");
  Windows windows(count, std::vector<model::TokenId>(length));
  std::uint64_t at = 0;
  for (auto& window : windows) {
    for (auto& token : window) {
      token = static_cast<model::TokenId>(random.bits(at++) % test::TinyModel::kVocab);
    }
  }
  return windows;
}

struct Models {
  test::TinyModel one{1}, two{2};
  io::ModelFiles original = io::open_model(one.path()), other = io::open_model(two.path());
  io::testing::TemporaryDirectory folder;
  mutable Team team;
};

/// What the half of a block that `name` is in is given by a model whose linear layers are those of
/// `linears`.
Rows stream(const io::ModelFiles& files, const io::ModelFiles& linears, const Windows& windows,
            const std::string& name, ThreadPool& pool) {
  std::map<std::string, Rows> ignored;
  const model::Transformer model = test::recording_model(files, linears, ignored, pool);
  const std::size_t block = name.find("layers.1.") != name.npos ? 1 : 0;
  Rows rows;
  for (const auto& window : windows) {
    model::KvCache cache(model.config, window.size());
    Matrix hidden = model::embed(model.embedding, window);
    model::run_blocks(model, 0, block, hidden, cache, pool);
    if (name.find("mlp") != name.npos) {
      model::run_half(model, block, model::Half::attention, hidden, cache, pool);
    }
    for (std::size_t t = 0; t < hidden.rows(); ++t) {
      rows.emplace_back(hidden.row(t).begin(), hidden.row(t).end());
    }
  }
  return rows;
}

/// All tensors as those of `files`.
SequentialInputs::Compressed all_from(const io::ModelFiles& files, ThreadPool& pool) {
  return [&](const std::string& name) {
    return std::optional(model::load_weights(files, name, pool));
  };
}

/// The mean over tokens of |r - r̂ + W x - V x̂|²; `r`, `own_r` may be empty.
double error(const Matrix& w, const Rows& x, const Matrix& v, const Rows& own, const Rows& r,
             const Rows& own_r) {
  double sum = 0;
  for (std::size_t t = 0; t < x.size(); ++t) {
    for (std::size_t i = 0; i < w.rows(); ++i) {
      double difference = r.empty() ? 0 : double{r[t][i]} - own_r[t][i];
      for (std::size_t j = 0; j < w.cols(); ++j) {
        difference += double{w(i, j)} * x[t][j] - double{v(i, j)} * own[t][j];
      }
      sum += difference * difference;
    }
  }
  return sum / static_cast<double>(x.size());
}

TEST(Sequential, IsTheUsualCalibrationWhereNothingWasChanged) {
  const Models models;
  ThreadPool pool(2);
  const Windows windows = random_windows(3, 70);
  const Calibration usual = calibrate(models.original, windows, pool, [] {});
  SequentialInputs inputs(
      models.original, windows, [](const std::string&) { return std::nullopt; },
      models.folder.path(), models.team, pool);
  for (const std::string& name : io::linear_names(models.original.config)) {
    if (name.find("q_proj") == name.npos && name.find("o_proj") == name.npos &&
        name.find("up_proj") == name.npos && name.find("down") == name.npos) {
      continue;
    }
    const SequentialInput input = inputs.at(name);
    EXPECT_EQ(input.correction.size(), 0u) << name;
    const quant::InputMoments expected = usual.moments(name);
    EXPECT_EQ(input.moments.mean, expected.mean) << name;
    const std::size_t n = expected.second.size();
    ASSERT_EQ(input.moments.second.size(), n);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = i; j < n; ++j) {
        ASSERT_EQ(input.moments.second(i, j), expected.second(i, j)) << name;
      }
    }
  }
}

TEST(Sequential, MeasuresBehindWhatWasCompressedAndCorrectsForIt) {
  const Models models;
  ThreadPool pool(2);
  const Windows windows = random_windows(4, 90);
  const auto x = record(models.original, models.original, windows, pool);
  const auto own = record(models.original, models.other, windows, pool);
  std::vector<std::string> asked;
  SequentialInputs inputs(
      models.original, windows,
      [&](const std::string& name) {
        asked.push_back(name);
        const bool is_embedding = name == "model.embed_tokens.weight";
        return std::optional(
            model::load_weights(is_embedding ? models.original : models.other, name, pool));
      },
      models.folder.path(), models.team, pool);
  for (const std::string& name : io::linear_names(models.original.config)) {
    // Also: inputs may be left out, as those of what is there already.
    if (name.ends_with("k_proj.weight") || name.ends_with("v_proj.weight") ||
        name.ends_with("up_proj.weight") || name == "model.layers.0.mlp.gate_proj.weight") {
      continue;
    }
    const SequentialInput input = inputs.at(name);
    const Rows &from = x.at(name), &to = own.at(name);
    const std::size_t n = from[0].size();
    ASSERT_EQ(input.moments.second.size(), n) << name;
    for (std::size_t i = 0; i < n; i += 5) {
      for (std::size_t j = 0; j < n; ++j) {
        double expected = 0;
        for (const auto& row : to) expected += double{row[i]} * row[j];
        expected /= static_cast<double>(to.size());
        ASSERT_NEAR(input.moments.second(i, j), expected, 1e-4) << name;
      }
    }
    if (name == "model.layers.0.self_attn.q_proj.weight") {
      EXPECT_EQ(input.correction.size(), 0u);
      continue;
    }
    ASSERT_EQ(input.correction.rows(), n) << name;
    const Matrix weights = model::load_weights(models.original, name, pool);
    Matrix wanted = weights;
    for (std::size_t i = 0; i < weights.rows(); ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t k = 0; k < n; ++k) wanted(i, j) += weights(i, k) * input.correction(k, j);
      }
    }
    Rows r, own_r;
    if (name.find("o_proj") != name.npos || name.find("down_proj") != name.npos) {
      r = stream(models.original, models.original, windows, name, pool);
      own_r = stream(models.original, models.other, windows, name, pool);
    }
    if (r == own_r) {  // no residual stream is wanted, or it is the same
      ASSERT_EQ(input.residual.size(), 0u) << name;
    } else {
      ASSERT_EQ(input.residual.rows(), weights.rows()) << name;
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        wanted.data()[i] += input.residual.data()[i];
      }
    }
    const double best = error(weights, from, wanted, to, r, own_r);
    EXPECT_LT(best, 0.9 * error(weights, from, weights, to, r, own_r)) << name;
    // Near the least: a step towards and away from it gains nothing (but for the ridge).
    for (const float step : {0.9f, 1.1f}) {
      Matrix near = weights;
      for (std::size_t i = 0; i < near.size(); ++i) {
        near.data()[i] += step * (wanted.data()[i] - weights.data()[i]);
      }
      EXPECT_GT(error(weights, from, near, to, r, own_r), 0.999 * best) << name;
    }
  }
  // The embedding, then each layer once, in order, and none that no input was asked for behind.
  std::vector<std::string> expected = io::linear_names(models.original.config);
  expected.insert(expected.begin(), "model.embed_tokens.weight");
  expected.pop_back();
  EXPECT_EQ(asked, expected);
}

TEST(Sequential, TheFirstBlockIsBehindTheEmbedding) {
  const Models models;
  ThreadPool pool(2);
  const Windows windows = random_windows(2, 60);
  SequentialInputs inputs(
      models.original, windows,
      [&](const std::string& name) -> std::optional<Matrix> {
        if (name != "model.embed_tokens.weight") return {};
        return model::load_weights(models.other, name, pool);
      },
      models.folder.path(), models.team, pool);
  const SequentialInput input = inputs.at("model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(input.correction.rows(), test::TinyModel::kHidden);
}

TEST(Sequential, IsTheSameForAnyNumberOfThreads) {
  const Models models;
  const Windows windows = random_windows(2, 60);
  std::vector<SequentialInput> found;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const auto folder = models.folder.path() / std::to_string(threads);
    std::filesystem::create_directory(folder);
    SequentialInputs inputs(models.original, windows, all_from(models.other, pool), folder,
                            models.team, pool);
    found.push_back(inputs.at("model.layers.1.mlp.down_proj.weight"));
  }
  const std::size_t n = test::TinyModel::kIntermediate;
  for (std::size_t i = 0; i < n * n; ++i) {
    ASSERT_EQ(found[0].moments.second(i / n, i % n), found[1].moments.second(i / n, i % n));
    ASSERT_EQ(found[0].correction.data()[i], found[1].correction.data()[i]);
  }
  ASSERT_EQ(found[0].residual.size(), test::TinyModel::kHidden * n);
  EXPECT_TRUE(std::equal(found[0].residual.data(),
                         found[0].residual.data() + found[0].residual.size(),
                         found[1].residual.data()));
}

TEST(Sequential, GoesOnFromWhereItWasStopped) {
  const Models models;
  const Windows windows = random_windows(3, 50);
  ThreadPool pool(2);
  const std::vector<std::string> names = io::linear_names(models.original.config);
  const auto folder_of = [&](const std::string& name) {
    const auto folder = models.folder.path() / name;
    std::filesystem::create_directory(folder);
    return folder;
  };
  // Stopped behind each half of a block; asked again for the same input, for the next one, and for
  // one before, as when its tensors were lost.
  for (const std::size_t stopped : {4u, 7u, 11u}) {
    for (const std::size_t next : {stopped, stopped + 2, stopped - 4}) {
      const auto folder = folder_of(fmt::format("{}-{}", stopped, next));
      SequentialInputs(models.original, windows, all_from(models.other, pool), folder, models.team,
                       pool)
          .at(names[stopped]);
      std::vector<std::string> asked;
      SequentialInputs again(
          models.original, windows,
          [&](const std::string& name) {
            asked.push_back(name);
            return all_from(models.other, pool)(name);
          },
          folder, models.team, pool);
      SequentialInputs whole(models.original, windows, all_from(models.other, pool),
                             folder_of(fmt::format("whole-{}-{}", stopped, next)), models.team,
                             pool);
      const SequentialInput found = again.at(names[next]), expected = whole.at(names[next]);
      const std::size_t n = expected.moments.second.size();
      for (std::size_t i = 0; i < n; ++i) {
        ASSERT_EQ(found.moments.second(i, n - 1), expected.moments.second(i, n - 1));
      }
      ASSERT_EQ(found.correction.size(), expected.correction.size());
      EXPECT_TRUE(std::equal(found.correction.data(),
                             found.correction.data() + found.correction.size(),
                             expected.correction.data()));
      const bool is_behind = next < stopped;
      EXPECT_EQ(asked.empty() || asked[0] != "model.embed_tokens.weight", !is_behind);
    }
  }
}

TEST(Sequential, RefusesATextAtWhichNothingIsFinite) {
  const Models models;
  ThreadPool pool(1);
  const Windows windows = random_windows(1, 20);
  const auto huge = [&](const std::string& name) {
    std::optional<Matrix> weights = all_from(models.other, pool)(name);
    std::fill_n(weights->data(), weights->size(), 1e38f);
    return weights;
  };
  SequentialInputs inputs(models.original, windows, huge, models.folder.path(), models.team, pool);
  EXPECT_THROW(inputs.at("model.layers.0.mlp.down_proj.weight"), Error);
}

}  // namespace
}  // namespace squish::compress
