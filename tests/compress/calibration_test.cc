#include "squish/compress/calibration.h"

#include <gmock/gmock.h>

#include <cmath>

#include "squish/base/error.h"
#include "squish/base/random.h"
#include "squish/linalg/outer_product.h"
#include "squish/model/transformer.h"
#include "tests/evaluate/tiny_model.h"
#include "tests/model/recording_linear.h"

namespace squish::compress {
namespace {

using Windows = std::vector<std::vector<model::TokenId>>;

Windows random_windows(std::size_t count, std::size_t length, std::size_t vocab) {
  const CounterRng random(3, "windows");
  Windows windows(count, std::vector<model::TokenId>(length));
  std::uint64_t at = 0;
  for (auto& window : windows) {
    for (auto& token : window) token = static_cast<model::TokenId>(random.bits(at++) % vocab);
  }
  return windows;
}

void expect_equals_recording(const io::ModelFiles& files, const Windows& windows) {
  ThreadPool pool(2);
  std::size_t steps = 0;
  const Calibration calibration = calibrate(files, windows, pool, [&] { ++steps; });
  EXPECT_EQ(steps, windows.size());
  EXPECT_EQ(calibration.inputs.size(), 4 * files.config.layers);
  for (const auto& [name, rows] : test::record(files, files, windows, pool)) {
    const quant::InputMoments moments = calibration.moments(name);
    const std::size_t n = rows.front().size();
    ASSERT_EQ(moments.second.size(), n) << name;
    ASSERT_EQ(moments.mean.size(), n) << name;
    EXPECT_EQ(calibration.inputs.at(input_name(name)).tokens, rows.size());
    EXPECT_EQ(calibration.inputs.at(input_name(name)).dropped, 0u);
    for (std::size_t i = 0; i < n; ++i) {
      double mean = 0;
      for (const auto& row : rows) mean += row[i];
      mean /= static_cast<double>(rows.size());
      ASSERT_NEAR(moments.mean[i], mean, 1e-9 * (1 + std::abs(mean))) << name;
      for (std::size_t j = 0; j < n; ++j) {
        double second = 0, scale = 1e-3;
        for (const auto& row : rows) {
          second += double{row[i]} * row[j];
          scale += std::abs(double{row[i]} * row[j]);
        }
        const auto count = static_cast<double>(rows.size());
        ASSERT_NEAR(moments.second(i, j), second / count, 1e-6 * scale / count)
            << name << " " << i << " " << j;
      }
    }
  }
}

TEST(Calibration, EqualsASlowRecordingOfEveryLinearLayersInput) {
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  expect_equals_recording(files, random_windows(3, 70, files.config.vocab));
}

TEST(Calibration, IsTheSameForAnyNumberOfThreadsAndWhenContinued) {
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const Windows windows = random_windows(4, 50, files.config.vocab);
  ThreadPool one(1), three(3);
  const Calibration whole = calibrate(files, windows, one, [] {});

  Calibrator first(files, one);
  first.add(windows[0]);
  Calibrator second(files, first.sums(), three);
  for (std::size_t i = 1; i < windows.size(); ++i) second.add(windows[i]);
  for (const auto& [name, sums] : second.sums()) {
    const InputSums& expected = whole.inputs.at(name);
    EXPECT_EQ(sums.tokens, expected.tokens);
    EXPECT_TRUE(std::ranges::equal(sums.sum, expected.sum)) << name;
    EXPECT_TRUE(std::ranges::equal(sums.products, expected.products)) << name;
  }
}

TEST(Calibration, DropsActivationsThatAreNotFiniteAndCountsThem) {
  // Element 0 of the down projection's input comes to lie about the largest that is taken.
  const test::TinyModel directory(1, 1e16f, "model.layers.0.mlp.up_proj.weight");
  const io::ModelFiles files = io::open_model(directory.path());
  const Windows windows = random_windows(1, 40, files.config.vocab);
  ThreadPool pool(2);
  const Calibration calibration = calibrate(files, windows, pool, [] {});
  const auto recording = test::record(files, files, windows, pool);
  std::uint64_t dropped = 0;
  for (const auto& [name, rows] : recording) {
    const InputSums& sums = calibration.inputs.at(input_name(name));
    const auto good = std::count_if(rows.begin(), rows.end(), [](const auto& row) {
      return std::ranges::all_of(row, [](float x) { return std::abs(x) <= 1e15f; });
    });
    EXPECT_EQ(sums.tokens, static_cast<std::uint64_t>(good)) << name;
    EXPECT_EQ(sums.dropped, rows.size() - static_cast<std::uint64_t>(good)) << name;
    dropped += sums.dropped;
    for (const double product : sums.products) ASSERT_TRUE(std::isfinite(product)) << name;
  }
  EXPECT_GT(dropped, 5u);
  EXPECT_LT(dropped, 35u);
}

TEST(Calibration, NamesTheInputsThatLayersShare) {
  EXPECT_EQ(input_name("model.layers.3.self_attn.q_proj.weight"), "model.layers.3.self_attn.qkv");
  EXPECT_EQ(input_name("model.layers.3.self_attn.k_proj.weight"), "model.layers.3.self_attn.qkv");
  EXPECT_EQ(input_name("model.layers.3.self_attn.v_proj.weight"), "model.layers.3.self_attn.qkv");
  EXPECT_EQ(input_name("model.layers.3.self_attn.o_proj.weight"),
            "model.layers.3.self_attn.o_proj");
  EXPECT_EQ(input_name("model.layers.3.mlp.gate_proj.weight"), "model.layers.3.mlp.gate_up");
  EXPECT_EQ(input_name("model.layers.3.mlp.up_proj.weight"), "model.layers.3.mlp.gate_up");
  EXPECT_EQ(input_name("model.layers.3.mlp.down_proj.weight"), "model.layers.3.mlp.down_proj");
}

}  // namespace
}  // namespace squish::compress
