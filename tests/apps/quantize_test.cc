// `quantize` and the commands that take its checkpoint, end to end on a tiny model.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/apps/run_squish.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

/// The files of a checkpoint but for the log, which holds times.
std::map<std::string, std::string> checkpoint_bytes(const std::filesystem::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    if (name != "squish.log.jsonl") files[name] = read_file(entry.path());
  }
  return files;
}

class Quantize : public Program {
 protected:
  Quantize() {
    std::string words;
    for (int i = 0; i < 60; ++i) words += " line " + std::to_string(i) + "\n";
    std::ofstream(model_.path() / "text") << words;
  }
  std::string model() const { return model_.path().string(); }
  std::string text() const { return (model_.path() / "text").string(); }
  std::filesystem::path out() const { return directory() / "out"; }
  std::vector<std::string> command(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"quantize", model(),          "-o",     "out",
                                      "--spec",   "int4:sym=0,g=8", "--seed", "42"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void quantize(const std::vector<std::string>& more = {}) const {
    const Outcome outcome = squish(command(more));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  /// Fails with one sentence; what is in the directory is not looked at.
  void expect_refused(const std::vector<std::string>& arguments, const std::string& words) const {
    const Outcome outcome = squish(arguments);
    EXPECT_EQ(outcome.code, 1) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(words));
    EXPECT_EQ(outcome.out, "");
  }
  json result() const { return json::parse(read_file(directory() / "r.json")); }

 private:
  TinyModel model_;
};

TEST_F(Quantize, EvalOfTheCheckpointIsBenchsCandidate) {
  using Words = std::vector<std::string>;
  for (const auto& [spec, tables] :
       {std::pair<std::string, Words>{"quip:bits=3", {}},
        {"vptq:v=4,k=16,r=4", {"--embed-bits", "3", "--head-bits", "3"}}}) {
    SCOPED_TRACE(spec);
    const std::vector<std::string> passage = {"--ppl-data", text(),     "--ppl-tokens",
                                              "200",        "--output", "r.json"};
    std::vector<std::string> bench = {"bench",  "--model-dir",  model(),  "--methods", spec,
                                      "--seed", "42",           "--rows", "8",         "--cols",
                                      "8",      "--tps-tokens", "1"};
    bench.insert(bench.end(), passage.begin(), passage.end());
    bench.insert(bench.end(), tables.begin(), tables.end());
    ASSERT_EQ(squish(bench).code, 0);
    const json candidate = result()["stage2"][1];
    ASSERT_EQ(candidate["status"], "ok");

    std::filesystem::remove_all(out());
    Words quantize = {"quantize", model(), "-o", "out", "--spec", spec, "--seed", "42"};
    quantize.insert(quantize.end(), tables.begin(), tables.end());
    ASSERT_EQ(squish(quantize).code, 0);
    std::vector<std::string> eval = {"eval", "out", "--reference", model()};
    eval.insert(eval.end(), passage.begin(), passage.end());
    const Outcome outcome = squish(eval);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const json own = result()["rows"][0];
    for (const char* key : {"spec_full", "nll", "nll_se", "kld_mean", "kld_p99", "delta_nll",
                            "top1_agreement", "bpw_linear", "bpw_model"}) {
      EXPECT_EQ(own[key], candidate[key]) << key;
    }
  }
}

TEST_F(Quantize, EveryCommandTakesTheCheckpointAsAModel) {
  quantize();
  const json model = json::parse(squish({"inspect", "out", "--json"}).out);
  EXPECT_EQ(model["container"], "squish");
  EXPECT_FALSE(model.contains("cannot_be_run"));
  for (const json& tensor : model["tensors"]) {
    EXPECT_EQ(tensor["type"] == "squish", tensor.contains("spec"));
    if (!tensor.contains("spec")) continue;
    EXPECT_EQ(tensor["bits"], 4 + 64.0 / 8) << tensor;
  }
  EXPECT_EQ(squish({"run", "out", "-p", "Hello", "-n", "4"}).code, 0);
  EXPECT_EQ(squish({"bench", "--model-dir", "out", "--methods", "int8", "--ppl-data", text(),
                    "--tps-tokens", "1", "--output", "r.json"})
                .code,
            0);
}

TEST_F(Quantize, RulesChooseTheSpecOfSingleTensors) {
  quantize({"--tensor", "*.down_proj.weight=int8", "--tensor", "model.layers.1.mlp.down*=none",
            "--tensor", "model.embed_tokens.weight=int8"});
  const json manifest = json::parse(read_file(out() / "squish.json"));
  std::map<std::string, std::string> types;
  for (const auto& [file, entries] : manifest["files"].items()) {
    for (const auto& [name, entry] : entries.items()) {
      types[name] = entry.value("spec", entry["type"].get<std::string>()).substr(0, 4);
    }
  }
  EXPECT_EQ(types["model.layers.0.mlp.down_proj.weight"], "int8");
  EXPECT_EQ(types["model.layers.1.mlp.down_proj.weight"], "BF16");
  EXPECT_EQ(types["model.embed_tokens.weight"], "int8");
  EXPECT_EQ(types["model.layers.0.mlp.up_proj.weight"], "int4");
  EXPECT_EQ(squish({"run", "out", "-p", "Hello", "-n", "4"}).code, 0);
}

TEST_F(Quantize, EmbedBitsStoreTheEmbeddingUnlessARuleSaysElse) {
  const auto spec_of = [&](const std::vector<std::string>& more) {
    std::filesystem::remove_all(out());
    quantize(more);
    const json tensors = json::parse(read_file(out() / "squish.json"))["job"]["tensors"];
    EXPECT_EQ(tensors[0][0], "model.embed_tokens.weight");
    return tensors[0][1].get<std::string>();
  };
  EXPECT_EQ(spec_of({"--embed-bits", "5"}).find("int5:sym=0,g=32,clip=mse,scale=f16"), 0u);
  EXPECT_EQ(spec_of({"--embed-bits", "5", "--tensor", "*embed*=int8:g=16"}).find("int8:"), 0u);
  EXPECT_EQ(squish({"run", "out", "-p", "Hello", "-n", "4"}).code, 0);
  std::filesystem::remove_all(out());
  for (const auto& [flag, bits, words] :
       {std::tuple{"--head-bits", "4", "this model's head is its embedding"},
        {"--embed-bits", "1", "--embed-bits"},
        {"--embed-bits", "9", "--embed-bits"}}) {
    expect_failure(command({flag, bits}), 2, words);
  }
  expect_failure({"bench", "--embed-bits", "4"}, 2, "needs --model-dir");
}

TEST_F(Quantize, DryRunPrintsThePlanAndWritesNothing) {
  const Outcome outcome = squish(command({"--dry-run"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("model.layers.1.self_attn.k_proj.weight"));
  EXPECT_THAT(outcome.out, HasSubstr("14 quantised tensors: 12.000 bits"));
  EXPECT_THAT(outcome.out, HasSubstr("peak memory: "));
  EXPECT_THAT(outcome.out, HasSubstr("48 x 32"));
  EXPECT_TRUE(std::filesystem::is_empty(directory()));
  expect_failure(command({"--max-memory", "1M"}), 1, "this job needs about");
  expect_failure(command({"--max-memory", "lots"}), 2, "--max-memory lots");
  EXPECT_TRUE(std::filesystem::is_empty(directory()));
}

TEST_F(Quantize, TheBytesDependNeitherOnThreadsNorOnTheRun) {
  quantize({"--threads", "1"});
  const auto one = checkpoint_bytes(out());
  std::filesystem::remove_all(out());
  quantize({"--threads", "2"});
  EXPECT_EQ(checkpoint_bytes(out()), one);
  quantize({"--resume"});  // whole already
  EXPECT_EQ(checkpoint_bytes(out()), one);
}

TEST_F(Quantize, SharedCodebooksAreStoredAndCountedOnce) {
  const auto quantize_by = [&](const std::string& spec, const std::string& threads) {
    std::filesystem::remove_all(out());
    const Outcome outcome =
        squish({"quantize", model(), "-o", "out", "--spec", spec, "--threads", threads});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  };
  const auto stored = [&] {
    std::map<std::string, json> shared;
    const json manifest = json::parse(read_file(out() / "squish.json"));
    for (const auto& [name, entry] : manifest["files"].begin()->items()) {
      if (entry["type"] == "shared") shared[name] = entry["sections"][0];
    }
    return shared;
  };
  // Entries of 4 numbers of 16 bits; 14 matrices of 7 roles.
  for (const auto& [spec, groups, bits] : {std::tuple{"vptq:v=4,k=32,r=2,share=role", 7, 34 * 64},
                                           {"vptq:v=4,k=32,r=2,share=model", 1, 34 * 64},
                                           {"aqlm:m=2,b=5,g=4,share=model", 1, 64 * 64}}) {
    SCOPED_TRACE(spec);
    quantize_by(spec, "1");
    const auto one = checkpoint_bytes(out());
    quantize_by(spec, "2");
    EXPECT_EQ(checkpoint_bytes(out()), one);
    const auto shared = stored();
    EXPECT_EQ(shared.size(), static_cast<std::size_t>(groups));
    for (const auto& [name, section] : shared) {
      EXPECT_EQ(section["part"], "codebooks");
      EXPECT_EQ(section["bytes"], bits / 8);
    }

    const json about = json::parse(squish({"inspect", "out", "--json"}).out);
    double linear = 0, all = groups * bits, weights = 0;
    for (const json& tensor : about["tensors"]) {
      const double count = tensor["shape"][0].get<double>() *
                           (tensor["shape"].size() > 1 ? tensor["shape"][1].get<double>() : 1);
      all += tensor["bits"].get<double>() * count;
      if (tensor["type"] != "squish") continue;
      linear += tensor["bits"].get<double>() * count;
      weights += count;
    }
    const json manifest = json::parse(read_file(out() / "squish.json"));
    EXPECT_NEAR(manifest["bits"]["quantised"], (linear + groups * bits) / weights, 1e-6);
    EXPECT_NEAR(about["bits_per_parameter"], all / about["parameters"].get<double>(), 1e-6);
    EXPECT_EQ(squish({"verify", "out"}).code, 0);
    const Outcome eval = squish({"eval", "out", "--reference", model(), "--ppl-data", text(),
                                 "--ppl-tokens", "200", "--output", "r.json"});
    ASSERT_EQ(eval.code, 0) << eval.err;
    EXPECT_NEAR(result()["rows"][0]["bpw_linear"], manifest["bits"]["quantised"], 1e-9);

    // What was begun goes on with the codebooks that are there.
    std::filesystem::remove(out() / "squish.json");
    std::filesystem::remove(out() / "model-00004-of-00015.safetensors");
    std::ofstream(out() / "squish.job.json")
        << json{{"format", "squish"}, {"format_version", 1}, {"job", manifest["job"]}};
    EXPECT_EQ(squish({"quantize", model(), "-o", "out", "--spec", spec, "--resume"}).code, 0);
    EXPECT_EQ(checkpoint_bytes(out()), one);
  }
}

TEST_F(Quantize, SharedCodebooksAreNoCandidates) {
  expect_failure(
      {"quantize", model(), "-o", "new", "--spec", "vptq:share=role;int4", "--target-bpw", "3"}, 2,
      "shares codebooks");
  expect_failure({"quantize", model(), "-o", "new", "--spec", "vptq:share=role,groups=2"}, 2,
                 "neither groups nor outliers");
}

TEST_F(Quantize, WhatIsMissingOrDamagedIsWrittenAgain) {
  quantize();
  const auto whole = checkpoint_bytes(out());
  const json job = {{"format", "squish"},
                    {"format_version", 1},
                    {"job", json::parse(whole.at("squish.json"))["job"]}};
  std::filesystem::remove(out() / "squish.json");
  std::ofstream(out() / "squish.job.json") << job.dump();
  std::filesystem::remove(out() / "model-00003-of-00015.safetensors");
  std::string damaged = whole.at("model-00005-of-00015.safetensors");
  damaged[damaged.size() - 1] ^= 1;
  std::ofstream(out() / "model-00005-of-00015.safetensors") << damaged;
  std::ofstream(out() / "model-00006-of-00015.safetensors") << "short";
  std::ofstream(out() / "model-00007-of-00015.safetensors.123.partial") << "half";
  expect_refused({"run", "out", "-p", "x"}, "not a whole checkpoint");
  expect_refused(command(), "exists already");
  quantize({"--resume"});
  EXPECT_EQ(checkpoint_bytes(out()), whole);
}

TEST_F(Quantize, SequentialJobsEndInTheSameBytesToo) {
  const std::vector<std::string> flags = {"--sequential", "--text", text(), "--tokens", "300"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), flags.begin(), flags.end());
    return more;
  };
  quantize(with({"--threads", "1"}));
  const auto whole = checkpoint_bytes(out());
  const json manifest = json::parse(whole.at("squish.json"));
  std::filesystem::remove_all(out());
  quantize(with({"--threads", "2"}));
  EXPECT_EQ(checkpoint_bytes(out()), whole);

  // As a killed job leaves it: the last six tensors are missing, and one is damaged.
  const json job = {{"format", "squish"}, {"format_version", 1}, {"job", manifest["job"]}};
  std::ofstream(out() / "squish.job.json") << job.dump();
  std::filesystem::remove(out() / "squish.json");
  for (const char* const file : {"10", "11", "12", "13", "14", "15"}) {
    std::filesystem::remove(out() / (std::string("model-000") + file + "-of-00015.safetensors"));
  }
  std::ofstream(out() / "model-00003-of-00015.safetensors") << "short";
  quantize(with({"--resume"}));
  EXPECT_EQ(checkpoint_bytes(out()), whole);

  const auto judged = [&] {
    EXPECT_EQ(squish({"eval", "out", "--reference", model(), "--ppl-data", text(), "--ppl-tokens",
                      "300", "--output", "r.json"})
                  .code,
              0);
    return result()["rows"][0];
  };
  const json sequential = judged();
  EXPECT_EQ(sequential["calibrated"], true);
  EXPECT_EQ(sequential["sequential"], true);
  EXPECT_GT(sequential["quantize_s"], 0);
  // On the text that all are calibrated on: better than behind the original's layers, and that is
  // better than nothing.
  std::filesystem::remove_all(out());
  quantize({"--text", text(), "--tokens", "300"});
  const json usual = judged();
  EXPECT_FALSE(usual.contains("sequential"));
  EXPECT_LT(sequential["kld_mean"], 0.95 * usual["kld_mean"].get<double>());
  std::filesystem::remove_all(out());
  quantize();
  EXPECT_EQ(judged()["calibrated"], false);
  EXPECT_LT(usual["kld_mean"], 0.9 * result()["rows"][0]["kld_mean"].get<double>());

  const Outcome outcome = squish(command(with({"--calib", "x.calib"})));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--sequential calibrates"));
  const Outcome plan = squish(command(with({"--dry-run"})));
  EXPECT_EQ(plan.code, 0) << plan.err;
}

TEST_F(Quantize, SequentialTakesRulesTablesAndTargets) {
  quantize({"--sequential", "--text", text(), "--tokens", "200", "--embed-bits", "4", "--tensor",
            "*.o_proj.weight=none", "--tensor", "*.0.mlp.up_proj.weight=int8"});
  EXPECT_EQ(squish({"verify", "out"}).code, 0);
  ASSERT_EQ(
      squish({"eval", "out", "--ppl-data", text(), "--ppl-tokens", "96", "--output", "r.json"})
          .code,
      0);
  EXPECT_EQ(result()["rows"][0]["spec"], "mixed");
  EXPECT_THAT(result()["rows"][0]["spec_full"], HasSubstr(";int8:"));
  std::filesystem::remove_all(out());
  const std::vector<std::string> target = {
      "quantize", model(),  "-o",   "out",      "--spec", "int2:g=8;int4:g=8", "--target-bpw",
      "11",       "--text", text(), "--tokens", "200",    "--candidates",      "kept"};
  ASSERT_EQ(squish(target).code, 0);
  const auto plain = checkpoint_bytes(out());
  std::filesystem::remove_all(out());
  std::vector<std::string> sequential = target;
  sequential.push_back("--sequential");
  const Outcome outcome = squish(sequential);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(squish({"verify", "out"}).code, 0);
  // The same candidates, found again, and the same choice; other bytes.
  const auto own = checkpoint_bytes(out());
  EXPECT_EQ(json::parse(own.at("squish.json"))["job"]["tensors"],
            json::parse(plain.at("squish.json"))["job"]["tensors"]);
  EXPECT_NE(own, plain);
  std::size_t folders = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(directory() / "kept")) {
    ++folders;
  }
  EXPECT_EQ(folders, 2u);
  // Nothing was compressed when the candidates were found, and the page shows them all the same.
  const Outcome page = squish({"report", "out/", "-o", "page.html"});
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_THAT(read_file(directory() / "page.html"), HasSubstr("\"name\":\"out\""));
}

TEST_F(Quantize, AnotherJobIsNotResumed) {
  quantize();
  const auto whole = checkpoint_bytes(out());
  expect_refused(
      {"quantize", model(), "-o", "out", "--spec", "int4:sym=0,g=8", "--seed", "7", "--resume"},
      "seed was 42 and is 7");
  expect_refused(command({"--resume", "--isa", "scalar"}), "isa was ");
  expect_refused(command({"--resume", "--tensor", "*.k_proj.weight=int8"}), "single tensors");
  expect_refused({"quantize", model(), "-o", "out", "--spec", "int3", "--seed", "42", "--resume"},
                 "spec was ");
  const TinyModel other(2);
  expect_refused({"quantize", other.path(), "-o", "out", "--spec", "int4:sym=0,g=8", "--seed", "42",
                  "--resume"},
                 "model_sha256 was ");
  expect_refused({"quantize", model(), "-o", model(), "--spec", "int4", "--resume"}, "neither");
  EXPECT_EQ(checkpoint_bytes(out()), whole);
}

TEST_F(Quantize, VerifyFindsEveryFlippedBitAndEveryMissingFile) {
  quantize();
  const Outcome verified = squish({"verify", "out"});
  ASSERT_EQ(verified.code, 0) << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("20 tensors, 14 of them quantised, in 15 files"));
  const auto whole = checkpoint_bytes(out());
  std::size_t damages = 0;
  for (const auto& [name, content] : whole) {
    for (const std::size_t at : {content.size() - 1, content.size() * 2 / 3, std::size_t{3}}) {
      std::string damaged = content;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
      std::filesystem::remove(out() / name);
      std::ofstream(out() / name) << damaged;
      expect_refused({"verify", "out"}, "out");
      ++damages;
    }
    std::filesystem::resize_file(out() / name, content.size() / 2);
    expect_refused({"verify", "out"}, name);
    std::filesystem::remove(out() / name);
    expect_refused({"verify", "out"}, name);
    std::ofstream(out() / name) << content;
  }
  EXPECT_EQ(damages, 3 * whole.size());
  EXPECT_EQ(whole.size(), 15u + 5);  // model files; config, two of the tokenizer, index, manifest
  EXPECT_EQ(squish({"verify", "out"}).code, 0);
  std::filesystem::remove(out() / "squish.json");
  expect_refused({"verify", "out"}, "squish.json is missing");
  expect_refused({"run", "out", "-p", "x"}, "not a whole squish checkpoint");
  expect_refused({"verify", model()}, "not a squish checkpoint");
}

TEST_F(Quantize, ReportShowsTheTensorsOfACheckpoint) {
  quantize();
  const Outcome outcome = squish({"report", "out", "-o", "page.html"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string page = read_file(directory() / "page.html");
  for (const auto& tensor : {"layers.0.self_attn.q_proj.weight", "layers.1.mlp.down_proj.weight"}) {
    EXPECT_THAT(page, HasSubstr(tensor));
  }
  std::filesystem::remove(out() / "squish.log.jsonl");
  expect_refused({"report", "out", "-o", "page.html"}, "expected a squish.log.jsonl");
}

TEST_F(Quantize, DequantizeWritesAModelThatComputesTheSame) {
  quantize();
  const Outcome written = squish({"dequantize", "out", "-o", "plain", "--type", "f32"});
  ASSERT_EQ(written.code, 0) << written.err;
  json nll;
  for (const char* name : {"out", "plain"}) {
    ASSERT_EQ(
        squish({"eval", name, "--ppl-data", text(), "--ppl-tokens", "200", "--output", "r.json"})
            .code,
        0);
    if (nll.is_null()) nll = result()["rows"][0]["nll"];
    EXPECT_EQ(result()["rows"][0]["nll"], nll);
  }
  const json config = json::parse(read_file(directory() / "plain" / "config.json"));
  EXPECT_FALSE(config.contains("quantization_config"));
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(squish({"dequantize", "out", "-o", "bf16"}).code, 0);
  EXPECT_LT(std::filesystem::file_size(directory() / "bf16" / "model.safetensors"),
            std::filesystem::file_size(directory() / "plain" / "model.safetensors") * 3 / 5);
  expect_refused({"dequantize", "out", "-o", "plain"}, "exists already");
  EXPECT_EQ(squish({"dequantize", "out", "-o", "x", "--type", "int4"}).code, 2);
}

TEST_F(Quantize, AnUnknownArchitectureIsCompressedByItsNames) {
  const std::filesystem::path config = std::filesystem::path(model()) / "config.json";
  json known = json::parse(read_file(config)), changed = known;
  changed["architectures"] = {"SomethingNewForCausalLM"};
  std::ofstream(config) << changed.dump();
  const Outcome outcome = squish(command());
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("unknown architecture 'SomethingNewForCausalLM'"));
  EXPECT_THAT(outcome.err, HasSubstr("model.embed_tokens.weight"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("left alone are: model.layers.0.mlp.up_proj.weight")));
  EXPECT_EQ(squish({"verify", "out"}).code, 0);
  ASSERT_EQ(squish({"dequantize", "out", "-o", "plain"}).code, 0);
  expect_refused({"eval", "out"}, "unknown architecture");
  expect_refused(command({"--text", text(), "--resume"}), "unknown architecture");
  const std::string unknown = read_file(directory() / "plain" / "model.safetensors");
  // The same as when the architecture is known.
  for (const char* made : {"out", "plain"}) std::filesystem::remove_all(directory() / made);
  std::ofstream(config) << known.dump();
  quantize();
  ASSERT_EQ(squish({"dequantize", "out", "-o", "plain"}).code, 0);
  EXPECT_EQ(read_file(directory() / "plain" / "model.safetensors"), unknown);
}

TEST_F(Quantize, AnUnknownArchitectureMayHaveTensorsOfAnyShape) {
  std::filesystem::create_directories(directory() / "new");
  std::ofstream(directory() / "new" / "config.json") << R"({"architectures": ["NewForCausalLM"]})";
  std::string header =
      R"({"conv.weight": {"dtype": "F32", "shape": [2, 3, 4], "data_offsets": [0, 96]},)"
      R"("scale": {"dtype": "F32", "shape": [], "data_offsets": [96, 100]},)"
      R"("up.weight": {"dtype": "F32", "shape": [4, 16], "data_offsets": [100, 356]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  const std::string data(356, '\x3c');
  std::ofstream(directory() / "new" / "model.safetensors", std::ios::binary)
      << std::string(reinterpret_cast<const char*>(&length), 8) << header << data;
  const Outcome outcome = squish({"quantize", "new", "-o", "out", "--spec", "int4:g=16"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(squish({"verify", "out"}).out, HasSubstr("3 tensors, 1 of them quantised"));
  ASSERT_EQ(squish({"dequantize", "out", "-o", "plain", "--type", "f32"}).code, 0);
  const std::string plain = read_file(directory() / "plain" / "model.safetensors");
  EXPECT_THAT(plain, HasSubstr("[2,3,4]"));
  EXPECT_THAT(plain, HasSubstr(data.substr(0, 100)));
}

TEST_F(Quantize, EvalDoesNotCallAPlainSourceQuantised) {
  quantize();
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{}, {"--reference", model()}}) {
    std::vector<std::string> words = {"eval", "out", "--ppl-data", text(), "--ppl-tokens", "96"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = squish(words);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, Not(HasSubstr("The source is itself quantised")));
  }
}

TEST_F(Quantize, ATextCalibratesFirst) {
  quantize({"--text", text()});
  const auto by_text = checkpoint_bytes(out());
  ASSERT_EQ(squish({"calibrate", model(), "--text", text(), "-o", "calib"}).code, 0);
  EXPECT_EQ(read_file(directory() / "out.calib"), read_file(directory() / "calib"));
  std::filesystem::remove_all(out());
  quantize({"--calib", "calib"});
  EXPECT_EQ(checkpoint_bytes(out()), by_text);
  quantize({"--text", text(), "--resume"});  // neither is made again
  std::filesystem::remove_all(out());
  // Beside it all the same.
  ASSERT_EQ(squish({"quantize", model(), "-o", "out/", "--spec", "int4:sym=0,g=8", "--seed", "42",
                    "--text", text()})
                .code,
            0);
  EXPECT_EQ(checkpoint_bytes(out()), by_text);
  std::filesystem::remove(directory() / "out.calib");
  expect_refused(command({"--text", text()}), "exists already");
  EXPECT_FALSE(std::filesystem::exists(directory() / "out.calib"));
  quantize({"--text", text(), "--resume"});
  std::ofstream(directory() / "other") << std::string(900, 'x') << "\n" << std::string(400, 'y');
  expect_refused(command({"--text", "other", "--resume"}), "belongs to another job");
}

TEST_F(Quantize, WithACalibrationErrorsCountByTheInputs) {
  const auto calibrate = [&](const std::string& of, const std::string& out_file) {
    return squish({"calibrate", of, "--text", text(), "-o", out_file, "--tokens", "480"}).code;
  };
  ASSERT_EQ(calibrate(model(), "calib"), 0);
  const auto proxy_snr = [&] {
    std::istringstream log(read_file(out() / "squish.log.jsonl"));
    std::string first;
    std::getline(log, first);
    return json::parse(first).value("proxy_snr_db", 0.0);
  };
  for (const std::string spec : {"int4:g=8", "quip:bits=2", "vptq:v=4,k=16,r=1", "aqlm:m=2,b=4"}) {
    const auto run = [&](const std::string& calibration, const std::string& threads) {
      return squish({"quantize", model(), "-o", "out", "--spec", spec, "--calib", calibration,
                     "--threads", threads});
    };
    std::filesystem::remove_all(out());
    const Outcome one = run("calib", "1");
    ASSERT_EQ(one.code, 0) << one.err;
    EXPECT_GT(proxy_snr(), 1) << spec;
    const auto bytes = checkpoint_bytes(out());
    std::filesystem::remove_all(out());
    ASSERT_EQ(run("calib", "2").code, 0);
    EXPECT_EQ(checkpoint_bytes(out()), bytes) << spec;
  }
  EXPECT_EQ(squish({"run", "out", "-p", "Hello", "-n", "4"}).code, 0);
  const std::string sum =
      json::parse(read_file(out() / "squish.json"))["job"]["calibration_sha256"];
  EXPECT_EQ(sum.size(), 64u);
  const std::vector<std::string> without = {"quantize", model(),        "-o",      "out",
                                            "--spec",   "aqlm:m=2,b=4", "--resume"};
  expect_refused(without, "calibration_sha256 was ");
  const TinyModel other(2);
  ASSERT_EQ(calibrate(other.path(), "other"), 0);
  expect_refused({"quantize", model(), "-o", "new", "--spec", "int4", "--calib", "other"}, "other");
  EXPECT_FALSE(std::filesystem::exists(directory() / "new"));
}

TEST_F(Quantize, AReaderWrittenFromTheFormatAloneDecodesTheSame) {
  for (const std::string spec : {"int2:g=7",
                                 "int3:sym=0,g=16,scale=f16",
                                 "int4:g=0",
                                 "int5",
                                 "int8:sym=0",
                                 "vptq:v=5,k=8,r=4",
                                 "vptq:v=8,k=16,r=1",
                                 "vptq:v=3,k=8,r=4,groups=3,outliers=9,ov=2,ok=8",
                                 "vptq:v=4,k=32,r=2,share=role",
                                 "aqlm:m=2,b=4,g=4,share=model",
                                 "aqlm:m=3,b=3,g=5",
                                 "quip:bits=2",
                                 "quip:bits=3",
                                 "quip:bits=4",
                                 "quip:form=gain",
                                 "trellis:code=fast",
                                 "trellis:bits=3,code=fast",
                                 "trellis:bits=3.5,code=fast",
                                 "trellis:bits=5.5,code=fast",
                                 "trellis:bits=1",
                                 "trellis:bits=4",
                                 "trellis:bits=8,code=fast",
                                 "trellis:bits=4,code=1mad",
                                 "trellis:bits=3,code=3inst",
                                 "trellis:bits=1.5,code=hyb",
                                 "trellis:bits=2,code=fast,form=tiles",
                                 "trellis:bits=2,code=hyb,form=tiles"}) {
    std::filesystem::remove_all(out());
    std::filesystem::remove_all(directory() / "plain");
    ASSERT_EQ(squish({"quantize", model(), "-o", "out", "--spec", spec}).code, 0) << spec;
    ASSERT_EQ(squish({"dequantize", "out", "-o", "plain", "--type", "f32"}).code, 0) << spec;
    const std::string command = SQUISH_PYTHON " " SQUISH_TEST_DATA
                                              "/../../scripts/squish_reader.py " +
                                out().string() + " --compare " + (directory() / "plain").string() +
                                " > " + (directory() / "said").string() + " 2>&1";
    const int code = std::system(command.c_str());
    EXPECT_EQ(code, 0) << spec << "\n" << read_file(directory() / "said");
  }
}

}  // namespace
}  // namespace squish::test
