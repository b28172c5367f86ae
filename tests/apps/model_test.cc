// `bench --model-dir`, `eval` and `run` on a tiny model, end to end.
#include <gmock/gmock.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/apps/run_squish.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class OnModel : public Program {
 protected:
  OnModel() {
    std::string words;
    for (int i = 0; i < 60; ++i) words += " line " + std::to_string(i) + "\n";
    std::ofstream(model_.path() / "text") << words;
  }
  std::string model() const { return model_.path().string(); }
  std::string text() const { return (model_.path() / "text").string(); }
  json result() const { return json::parse(read_file(directory() / "r.json")); }

 private:
  TinyModel model_;
};

TEST_F(OnModel, BenchFillsStage2) {
  const Outcome outcome = squish({"bench", "--model-dir", model(), "--methods",
                                  "int4:g=16;quip:bits=2", "--ppl-data", text(), "--ppl-tokens",
                                  "300", "--tps-tokens", "4", "--markdown", "--output", "r.json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("BPW linear"));
  EXPECT_THAT(outcome.out, HasSubstr("gptq-96@3, 285 scored tokens of other (sha256 "));
  EXPECT_THAT(outcome.out, HasSubstr("Noise floor"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("itself quantised")));
  const json file = result();
  EXPECT_EQ(file["stage1"].size(), 2u);
  ASSERT_EQ(file["stage2"].size(), 3u);
  EXPECT_EQ(file["stage2"][0]["method"], "none");
  EXPECT_EQ(file["stage2"][0]["bpw_model"], 16);
  for (const json& row : file["stage2"]) {
    EXPECT_EQ(row["status"], "ok");
    for (const char* const key :
         {"spec", "spec_full", "seed", "bpw_linear", "bpw_model", "file_bytes", "ppl", "nll",
          "nll_se", "ppl_protocol", "scored_tokens", "text", "text_sha256", "tps", "prefill_tps",
          "bytes_per_token", "bandwidth_fraction", "backend"}) {
      EXPECT_TRUE(row.contains(key)) << key;
    }
    for (const char* const key : {"delta_nll", "delta_nll_se", "kld_mean", "kld_p99",
                                  "top1_agreement", "quantize_s", "peak_rss_bytes"}) {
      EXPECT_EQ(row.contains(key), row["method"] != "none") << key;
    }
  }
}

TEST_F(OnModel, DryRunIsStage1Alone) {
  ASSERT_EQ(squish({"bench", "--dry-run", "--model-dir", model(), "--methods", "int4", "--output",
                    "r.json"})
                .code,
            0);
  EXPECT_TRUE(result()["stage2"].empty());
  EXPECT_EQ(result()["config"]["dry_run"], true);
}

TEST_F(OnModel, BenchTakesATensorOfAFile) {
  ASSERT_EQ(squish({"bench", "--weights",
                    model() + "/model.safetensors:model.layers.0.mlp.up_proj.weight", "--methods",
                    "int4:g=16", "--output", "r.json"})
                .code,
            0);
  const json row = result()["stage1"][0];
  EXPECT_EQ(row["rows"], 48);
  EXPECT_EQ(row["cols"], 32);
  EXPECT_FALSE(row.contains("shannon_gap_db"));
}

TEST_F(OnModel, EvalComparesWithAReference) {
  const TinyModel other(2);
  const std::vector<std::string> arguments = {"eval",         model(),  "--ppl-data", text(),
                                              "--output",     "r.json", "--ctx",      "32",
                                              "--ppl-tokens", "64"};
  const Outcome alone = squish(arguments);
  ASSERT_EQ(alone.code, 0) << alone.err;
  EXPECT_THAT(alone.out, HasSubstr("gptq-32@2"));
  EXPECT_EQ(result()["schema"], "squish.eval/1");
  EXPECT_FALSE(result()["rows"][0].contains("kld_mean"));
  const json nll = result()["rows"][0]["nll"];

  std::vector<std::string> compared = arguments;
  compared.insert(compared.end(), {"--reference", other.path().string()});
  ASSERT_EQ(squish(compared).code, 0);
  EXPECT_EQ(result()["rows"][0]["nll"], nll);
  EXPECT_GT(result()["rows"][0]["kld_mean"], 0.001);
}

TEST_F(OnModel, KeysAndValuesOfFewerBitsCostLittle) {
  double before = -1;
  for (const char* kv : {"f32", "f16", "int8"}) {
    const Outcome outcome = squish({"eval", model(), "--reference", model(), "--kv", kv,
                                    "--ppl-data", text(), "--output", "r.json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(result()["config"]["kv"], kv);
    const double divergence = result()["rows"][0]["kld_mean"];
    EXPECT_GT(divergence, before) << kv;
    EXPECT_LT(divergence, 1e-3) << kv;
    before = divergence;
    EXPECT_EQ(squish({"run", model(), "-p", "Hello", "-n", "4", "--kv", kv}).code, 0);
    const Outcome speed = squish(
        {"speed", model(), "--tokens", "4", "--rounds", "1", "--kv", kv, "--format", "json"});
    EXPECT_EQ(json::parse(speed.out)["config"]["kv"], kv);
  }
}

TEST_F(OnModel, EvalGoesOnWhereItWasKilled) {
  const TinyModel other(2);
  std::vector<std::string> arguments = {"eval",     model(),  "--reference",  other.path().string(),
                                        "--output", "r.json", "--ppl-data",   text(),
                                        "--ctx",    "32",     "--save-every", "0"};
  ASSERT_EQ(squish(arguments).code, 0);
  const json whole = result()["rows"][0];
  ASSERT_FALSE(std::filesystem::exists(directory() / "r.json.unfinished"));
  std::filesystem::remove(directory() / "r.json");

  const pid_t child = start(arguments, "/dev/null", "/dev/null");
  siginfo_t ended = {};
  while (!std::filesystem::exists(directory() / "r.json.unfinished") &&
         ::waitid(P_PID, child, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ::kill(child, SIGKILL);
  ASSERT_EQ(wait_for(child), 128 + SIGKILL);
  arguments.push_back("--resume");
  std::vector<std::string> another = arguments;
  another[9] = "16";
  const Outcome refused = squish(another);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("r.json.unfinished: of other models"));
  const Outcome resumed = squish(arguments);
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  for (const char* const field : {"nll", "kld_mean", "kld_p99", "top1_agreement"}) {
    EXPECT_EQ(result()["rows"][0][field], whole[field]) << field;
  }
  EXPECT_FALSE(std::filesystem::exists(directory() / "r.json.unfinished"));
}

TEST_F(OnModel, RunStreamsTheSameTextForTheSameSeed) {
  const std::vector<std::string> arguments = {"run", model(), "-p", "Hello", "-n", "20"};
  const Outcome greedy = squish(arguments);
  ASSERT_EQ(greedy.code, 0) << greedy.err;
  EXPECT_THAT(greedy.err, HasSubstr("tokens/s"));
  EXPECT_EQ(greedy.out, squish(arguments).out);
  std::vector<std::string> sampled = arguments;
  sampled.insert(sampled.end(), {"--temperature", "1.5", "--seed", "4", "--threads", "1"});
  const std::string first = squish(sampled).out;
  sampled.back() = "2";
  EXPECT_EQ(squish(sampled).out, first);
  sampled[sampled.size() - 3] = "5";
  EXPECT_NE(squish(sampled).out, first);
  std::vector<std::string> chat = arguments;
  chat.push_back("--chat");
  const Outcome chatted = squish(chat);
  EXPECT_EQ(chatted.code, 0) << chatted.err;
  EXPECT_THAT(chatted.err, Not(HasSubstr("prompt: 5 tokens")));
}

TEST_F(OnModel, RunSaysTheSameFromMappedWeights) {
  ASSERT_EQ(squish({"quantize", model(), "-o", "out", "--spec", "quip", "--embed-bits", "4"}).code,
            0);
  const auto said = [this](const std::string& weights) {
    return squish({"run", "out", "-p", "Hello", "-n", "20", "--weights", weights}).out;
  };
  const std::string copied = said("copied");
  EXPECT_GT(copied.size(), 5u);
  EXPECT_EQ(said("mapped"), copied);
}

TEST_F(OnModel, WrongInputIsOneSentence) {
  expect_failure({"eval"}, 2, "MODEL");
  expect_failure({"eval", "/nonexistent/model.gguf"}, 1, "/nonexistent/model.gguf");
  expect_failure({"bench", "--model-dir", "/nonexistent"}, 1, "/nonexistent");
  expect_failure({"eval", model(), "--ppl-data", "/nonexistent.txt"}, 1, "/nonexistent.txt");
  expect_failure({"eval", model(), "--ppl-data", text(), "--ctx", "97"}, 2, "at most 96");
  expect_failure({"eval", model(), "--ppl-data", text(), "--resume"}, 2, "expected --output");
  expect_failure({"eval", model(), "--ppl-protocol", "hf"}, 2, "gptq or llama.cpp");
  expect_failure({"run", model()}, 2, "--prompt");
  expect_failure({"run", model(), "-p", ""}, 2, "empty");
  expect_failure({"run", model(), "-p", std::string(100, 'x')}, 2, "at most 96");
  expect_failure({"run", model(), "-p", "x", "--top-p", "2"}, 2, "--top-p");
  expect_failure({"run", model(), "-p", "x", "--top-k", "-1"}, 2, "--top-k");
  expect_failure({"run", model(), "-p", "x", "--kv", "int4"}, 2, "--kv");
  const std::string weights = model() + "/model.safetensors", config = model() + "/config.json";
  expect_failure({"bench", "--model-dir", model(), "--output", config}, 2, "replace an input");
  expect_failure({"bench", "--weights", weights + ":w", "--output", weights}, 2, "replace an");
  expect_failure({"eval", model(), "--ppl-data", text(), "--output", text()}, 2, "replace an");
  std::filesystem::resize_file(model() + "/model.safetensors", 5000);
  expect_failure({"run", model(), "-p", "x"}, 1, "model.safetensors");
}

TEST_F(OnModel, BenchFindsAWeightThatIsNotFiniteBeforeAnythingRuns) {
  std::fstream file(model() + "/model.safetensors",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-2, std::ios::end);
  file.write("\xC0\x7F", 2);  // NaN as BF16
  file.close();
  expect_failure({"bench", "--model-dir", model(), "--ppl-data", text(), "--markdown"}, 1,
                 "expected finite weights");
}

}  // namespace
}  // namespace squish::test
