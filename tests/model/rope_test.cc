#include "squish/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace squish::model {
namespace {

io::ModelConfig plain(std::size_t head_dim, double theta) {
  io::ModelConfig config;
  config.head_dim = head_dim;
  config.max_context = 2048;
  config.rope.theta = theta;
  return config;
}

/// A configuration of rope.json (tests/golden/tiny_models.py).
io::ModelConfig parse(const nlohmann::json& golden) {
  using Scaling = io::Rope::Scaling;
  const nlohmann::json& p = golden.at("rope");
  io::ModelConfig config = plain(golden.at("head_dim"), p.at("rope_theta"));
  config.max_context = golden.at("max_context");
  const std::string type = p.at("rope_type");
  config.rope.scaling = type == "llama3"   ? Scaling::llama3
                        : type == "yarn"   ? Scaling::yarn
                        : type == "linear" ? Scaling::linear
                                           : Scaling::dynamic_ntk;
  config.rope.factor = p.at("factor");
  config.rope.original_context = p.value("original_max_position_embeddings", 0.0);
  config.rope.low_freq_factor = p.value("low_freq_factor", 1.0);
  config.rope.high_freq_factor = p.value("high_freq_factor", 4.0);
  return config;
}

TEST(Rope, FrequenciesAgreeWithHuggingFace) {
  std::ifstream file(SQUISH_TEST_DATA "/models/rope.json");
  const auto goldens = nlohmann::json::parse(file);
  ASSERT_EQ(goldens.size(), 5u);
  for (const auto& [name, golden] : goldens.items()) {
    const RopeFrequencies got = rope_frequencies(parse(golden), golden.at("length"));
    const std::vector<float> expected = golden.at("radians");
    ASSERT_EQ(got.radians.size(), expected.size()) << name;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(got.radians[i] / expected[i], 1, 2e-6) << name << ' ' << i;
    }
    EXPECT_NEAR(got.amplitude, golden.at("amplitude").get<double>(), 1e-6) << name;
  }
}

TEST(Rope, PlainFrequencies) {
  const RopeFrequencies got = rope_frequencies(plain(8, 10000), 5);
  const std::vector<float> expected = {1, 0.1f, 0.01f, 0.001f};
  ASSERT_EQ(got.radians.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(got.radians[i], expected[i]);
  EXPECT_EQ(got.amplitude, 1);
}

TEST(Rope, ExplicitDivisorsWin) {
  io::ModelConfig config = plain(8, 10000);
  config.rope.scaling = io::Rope::Scaling::linear;
  config.rope.factor = 100;
  config.rope.frequency_divisors = {1, 2, 4, 8};
  const RopeFrequencies got = rope_frequencies(config, 5);
  const std::vector<float> expected = {1, 0.05f, 0.0025f, 0.000125f};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(got.radians[i], expected[i]);
}

TEST(Rope, AttentionFactorOverridesTheYarnAmplitude) {
  io::ModelConfig config = plain(64, 10000);
  config.rope.scaling = io::Rope::Scaling::yarn;
  config.rope.factor = 4;
  EXPECT_NEAR(rope_frequencies(config, 5).amplitude, 0.1 * std::log(4) + 1, 1e-6);
  config.rope.attention_factor = 0.75;
  EXPECT_EQ(rope_frequencies(config, 5).amplitude, 0.75f);
  RopeTable table(config, 1);
  table.fill(config, 0);
  EXPECT_EQ(table.cos(0, 3), 0.75f);
  EXPECT_EQ(table.sin(0, 3), 0);
}

TEST(Rope, TableHoldsTheAnglesOfItsPositions) {
  const io::ModelConfig config = plain(16, 500);
  RopeTable table(config, 3);
  table.fill(config, 11);
  ASSERT_EQ(table.cos.rows(), 3u);
  ASSERT_EQ(table.cos.cols(), 8u);
  for (std::size_t t = 0; t < 3; ++t) {
    for (std::size_t i = 0; i < 8; ++i) {
      const double angle =
          (11.0 + static_cast<double>(t)) * std::pow(500, -static_cast<double>(i) / 8);
      EXPECT_NEAR(table.cos(t, i), std::cos(angle), 2e-6);
      EXPECT_NEAR(table.sin(t, i), std::sin(angle), 2e-6);
    }
  }
}

}  // namespace
}  // namespace squish::model
