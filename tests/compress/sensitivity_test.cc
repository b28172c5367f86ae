#include "squish/compress/sensitivity.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "squish/base/error.h"
#include "squish/model/transformer.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::compress {
namespace {

using Windows = std::vector<std::vector<model::TokenId>>;

Windows two_windows() {
  Windows windows(2);
  for (std::size_t i = 0; i < 150; ++i) {  // of different lengths, one beyond 128 positions
    windows[i < 140 ? 0 : 1].push_back(static_cast<model::TokenId>((i * i + 7 * i) % 256));
  }
  return windows;
}

Matrix changed(const io::ModelFiles& files, const std::string& name, ThreadPool& pool) {
  Matrix weights = model::load_weights(files, name, pool);
  for (std::size_t i = 0; i < weights.size(); i += 3) weights.data()[i] *= 0.8f;
  return weights;
}

/// log softmax of every position, in double.
std::vector<std::vector<double>> log_probabilities(const model::Transformer& model,
                                                   const std::vector<model::TokenId>& window,
                                                   ThreadPool& pool) {
  model::KvCache cache(model.config, window.size());
  const Matrix hidden = model::forward(model, window, cache, pool);
  Matrix logits(window.size(), model.config.vocab);
  model::logits(model, hidden, logits, pool);
  std::vector<std::vector<double>> result;
  for (std::size_t i = 0; i < logits.rows(); ++i) {
    double sum = 0;
    for (const float logit : logits.row(i)) sum += std::exp(static_cast<double>(logit));
    auto& row = result.emplace_back();
    for (const float logit : logits.row(i)) row.push_back(logit - std::log(sum));
  }
  return result;
}

TEST(ProbeLayers, FindTheDivergenceOfTheModelWithOneLayerReplaced) {
  ThreadPool pool(2);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const Windows windows = two_windows();
  const auto head = model::load_head(files, pool);
  const model::Transformer own = model::load_for_windows(files, head, pool);
  const auto with = [&](const std::string& replaced) {
    return model::build_transformer(files, head, pool, [&](const std::string& name) {
      return model::dense_linear(std::make_shared<const Matrix>(
          name == replaced ? changed(files, name, pool) : model::load_weights(files, name, pool)));
    });
  };
  std::vector<std::string> found;
  Probe probe;
  probe.wanted = [](const std::string& name) { return name.find("v_proj") == name.npos; };
  probe.replacement = [&](const std::string& name) { return changed(files, name, pool); };
  probe.found = [&](const std::string& name, double kld) {
    found.push_back(name);
    double expected = 0;
    std::size_t count = 0;
    const model::Transformer other = with(name);
    for (const auto& window : windows) {
      const auto p = log_probabilities(own, window, pool),
                 q = log_probabilities(other, window, pool);
      for (std::size_t i = 0; i < p.size(); ++i, ++count) {
        for (std::size_t j = 0; j < p[i].size(); ++j) {
          expected += std::exp(p[i][j]) * (p[i][j] - q[i][j]);
        }
      }
    }
    expected /= static_cast<double>(count);
    EXPECT_GT(expected, 1e-5) << name;
    EXPECT_NEAR(kld, expected, 1e-6 + 1e-3 * expected) << name;
  };
  probe_layers(files, windows, probe, pool);
  std::vector<std::string> names = io::linear_names(files.config);
  std::erase_if(names, [](const std::string& name) { return name.find("v_proj") != name.npos; });
  EXPECT_EQ(found, names);
}

TEST(ProbeLayers, FindNothingWhereNothingChangesAndTheSameForAnyNumberOfThreads) {
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    auto& klds = results.emplace_back();
    Probe probe;
    probe.wanted = [](const std::string&) { return true; };
    probe.replacement = [&](const std::string& name) {
      return name.ends_with("o_proj.weight") ? model::load_weights(files, name, pool)
                                             : changed(files, name, pool);
    };
    probe.found = [&](const std::string& name, double kld) {
      EXPECT_TRUE(!name.ends_with("o_proj.weight") || kld < 1e-12) << kld;
      klds.push_back(kld);
    };
    probe_layers(files, two_windows(), probe, pool);
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(ProbeLayers, LogitsThatAreNotFiniteAreAnError) {
  ThreadPool pool(1);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  Probe probe;
  probe.wanted = [](const std::string&) { return true; };
  probe.replacement = [&](const std::string& name) {
    Matrix weights = model::load_weights(files, name, pool);
    weights(0, 0) = std::numeric_limits<float>::infinity();
    return weights;
  };
  probe.found = [](const std::string&, double) {};
  EXPECT_THROW(probe_layers(files, two_windows(), probe, pool), Error);
}

}  // namespace
}  // namespace squish::compress
