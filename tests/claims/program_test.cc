// The figures that the README and the issue claim for the program as a user runs it: the presets of
// `squish bench`, and SmolLM2's perplexity beside llama.cpp's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/apps/run_squish.h"

namespace squish::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Band {
  double lowest, highest;
};

class Claims : public Program {
 protected:
  json run_for_json(std::vector<std::string> arguments, double seconds) {
    const fs::path output = directory() / "result.json";
    arguments.insert(arguments.end(), {"--output", output.string()});
    const auto start = std::chrono::steady_clock::now();
    const Outcome outcome = squish(arguments);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    std::printf("%s: %.1f s\n", arguments.front().c_str(), took.count());
    EXPECT_LE(took.count(), seconds);
    return json::parse(std::ifstream(output));
  }

  static void expect_bands(const json& rows, const std::map<std::string, Band>& bands) {
    std::size_t seen = 0;
    for (const json& row : rows) {
      const auto band = bands.find(row.at("spec").get<std::string>());
      if (band == bands.end()) continue;
      ++seen;
      const double snr = row.at("snr_db");
      std::printf("%-28s %7.3f dB at %.4f bits\n", band->first.c_str(), snr,
                  row.at("bpw").get<double>());
      EXPECT_GE(snr, band->second.lowest) << band->first;
      EXPECT_LE(snr, band->second.highest) << band->first << ": better than known, find out why";
    }
    EXPECT_EQ(seen, bands.size());
  }
};

TEST_F(Claims, DefaultRunShowsTheTableInSeconds) {
  const json rows = run_for_json({"bench"}, 15).at("stage1");
  std::vector<double> nominal;
  for (const json& row : rows) {
    EXPECT_EQ(row.at("status"), "ok");
    nominal.push_back(row.at("bpw_nominal"));
  }
  EXPECT_EQ(nominal, (std::vector<double>{5.0, 5.0, 4.5, 1.25, 2.0, 2.0, 3.0, 2.0, 3.0, 4.0, 2.0,
                                          3.0, 4.0}));
}

const std::map<std::string, Band> kBands = {
    {"int4:sym=0,g=64", {20.9, 21.1}},  {"quip:bits=2", {10.35, 10.55}},
    {"quip:bits=3", {15.25, 15.9}},     {"quip:bits=4", {20.1, 21.0}},
    {"aqlm:m=2,b=8,g=8", {9.95, 10.6}}, {"vptq:v=8,k=256,r=16", {7.15, 7.8}}};
const std::map<std::string, Band> kTrellisBands = {{"trellis:bits=2", {11.58, 11.8}},
                                                   {"trellis:bits=3", {17.42, 17.8}},
                                                   {"trellis:bits=4", {23.2, 23.6}}};

std::string specs(const std::map<std::string, Band>& bands) {
  std::string all;
  for (const auto& [spec, band] : bands) all += (all.empty() ? "" : ";") + spec;
  return all;
}

TEST_F(Claims, HighFidelityBands) {
  expect_bands(run_for_json({"bench", "--preset", "high-fidelity", "--methods", specs(kBands)}, 300)
                   .at("stage1"),
               kBands);
}

// The trellis codes columns by themselves: an eighth of the preset's say as much.
TEST_F(Claims, HighFidelityBandsOfTheTrellis) {
  expect_bands(
      run_for_json({"bench", "--rows", "4096", "--cols", "512", "--methods", specs(kTrellisBands)},
                   300)
          .at("stage1"),
      kTrellisBands);
}

TEST_F(Claims, MinutesTheHighFidelityPreset) {
  std::map<std::string, Band> all = kBands;
  all.insert(kTrellisBands.begin(), kTrellisBands.end());
  expect_bands(run_for_json({"bench", "--preset", "high-fidelity"}, 480).at("stage1"), all);
}

fs::path smollm2() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  return (cache != nullptr ? fs::path(cache) : fs::path(getenv("HOME")) / ".cache") /
         "squish/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

TEST_F(Claims, AGgufTensorIsReadByEitherNameAndSaidToBeQuantised) {
  if (!fs::exists(smollm2())) GTEST_SKIP() << smollm2() << " is missing";
  for (const char* const name : {"blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight"}) {
    const Outcome outcome = squish({"bench", "--weights", smollm2().string() + ":" + name,
                                    "--methods", "int4", "--markdown", "--output", "r.json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, ::testing::HasSubstr("source is itself quantised"));
  }
}

// llama.cpp (ik_llama.cpp 8337e4cd3) on the same model, text, protocol and windows: 23.5850.
TEST_F(Claims, PerplexityOfSmolLM2IsLlamaCpps) {
  const fs::path model = smollm2();
  if (!fs::exists(model)) GTEST_SKIP() << model << " is missing; scripts/fetch_model.sh gets it";
  const Outcome probe = squish({"eval", model.string(), "--ctx", "16", "--ppl-tokens", "16"});
  if (probe.code != 0) GTEST_SKIP() << probe.err;  // no WikiText-2 on this machine
  const json row = run_for_json({"eval", model.string(), "--ppl-protocol", "llama.cpp", "--ctx",
                                 "512", "--ppl-tokens", "32768"},
                                600)
                       .at("rows")
                       .at(0);
  const double perplexity = row.at("ppl");
  std::printf("perplexity %.4f, llama.cpp 23.5850\n", perplexity);
  EXPECT_NEAR(perplexity, 23.5850, 0.003 * 23.5850);
}

}  // namespace
}  // namespace squish::test
