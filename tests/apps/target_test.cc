// `quantize` to a size, end to end on a tiny model.
#include <gmock/gmock.h>

#include <chrono>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "squish/base/random.h"
#include "tests/apps/run_squish.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class QuantizeToTarget : public Program {
 protected:
  QuantizeToTarget() {
    for (const int first : {0, 500}) {
      std::string words;
      for (int i = 0; i < 60; ++i) words += " line " + std::to_string(first + i) + "\n";
      std::ofstream(model_.path() / ("text" + std::to_string(first))) << words;
    }
  }
  std::string model() const { return model_.path().string(); }
  std::string text(int first = 0) const {
    return (model_.path() / ("text" + std::to_string(first))).string();
  }
  Words command(const Words& more) const {
    Words words = {"quantize", model(),
                   "-o",       "out",
                   "--spec",   "int2:g=16,scale=f16;quip:bits=3;int5:g=0,scale=f16;int8:g=0"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void quantize(const Words& more) const {
    Words words = command({"--text", text()});
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = squish(words);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  json file(const std::string& name) const {
    return json::parse(read_file(directory() / "out" / name));
  }
  /// Everything but the log, which holds times.
  std::map<std::string, std::string> bytes() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(directory() / "out")) {
      const std::string name = entry.path().filename();
      if (name != "squish.log.jsonl") files[name] = read_file(entry.path());
    }
    return files;
  }
  double tensor_bytes() const {
    double sum = 0;
    const json model = json::parse(squish({"inspect", "out", "--json"}).out);
    for (const json& tensor : model["tensors"]) {
      double weights = 1;
      for (const double size : tensor["shape"]) weights *= size;
      sum += tensor["bits"].get<double>() * weights / 8;
    }
    return sum;
  }

 private:
  TinyModel model_;
};

TEST_F(QuantizeToTarget, MeetsBitsPerWeightAsAPlanSaysAndIsACheckpoint) {
  quantize({"--target-bpw", "4.5", "--tensor", "*.1.mlp.down*=int8:g=0", "--embed-bits", "4"});
  EXPECT_FALSE(fs::exists(directory() / "out" / "candidates"));
  EXPECT_FALSE(fs::exists(directory() / "out" / "squish.job.json"));
  EXPECT_THAT(squish({"verify", "out"}).out, HasSubstr("15 of them quantised"));
  EXPECT_EQ(squish({"run", "out", "-p", "Hello", "-n", "4"}).code, 0);
  ASSERT_EQ(
      squish({"eval", "out", "--reference", model(), "--ppl-data", text(), "--output", "r.json"})
          .code,
      0);
  const json row = json::parse(read_file(directory() / "r.json"))["rows"][0];
  EXPECT_EQ(row["method"], "mixed");
  EXPECT_LE(row["bpw_linear"], 4.5);
  EXPECT_GT(row["bpw_linear"], 4.2);

  const json plan = file("squish.plan.json"), manifest = file("squish.json");
  EXPECT_EQ(plan["bpw"], row["bpw_linear"]);
  EXPECT_EQ(plan["tensors"].size(), 13u);
  std::map<std::string, std::string> specs;
  for (const json& pair : manifest["job"]["tensors"]) specs[pair[0]] = pair[1];
  EXPECT_EQ(specs.at("model.layers.1.mlp.down_proj.weight").find("int8"), 0u);
  EXPECT_EQ(specs.at("model.embed_tokens.weight").find("int4"), 0u);
  std::set<std::string> used;
  double predicted = 0;
  for (const json& tensor : plan["tensors"]) {
    const std::size_t choice = tensor["choice"];
    EXPECT_EQ(specs.at(tensor["name"]), plan["candidates"][choice]);
    used.insert(specs.at(tensor["name"]));
    predicted +=
        tensor["sensitivity"].get<double>() * tensor["candidates"][choice]["loss"].get<double>();
    EXPECT_GT(tensor["kld"], 0);
  }
  EXPECT_GT(used.size(), 1u);
  EXPECT_NEAR(plan["predicted_kld"], predicted, 1e-9);
}

TEST_F(QuantizeToTarget, MeetsASizeAndSaysWhereItCannot) {
  quantize({"--target-size", "26KiB"});
  EXPECT_LE(tensor_bytes(), 26 * 1024);
  EXPECT_GT(tensor_bytes(), 25 * 1024);
  fs::remove_all(directory() / "out");
  for (const auto& [flag, value, words] :
       {std::tuple{"--target-size", "20000", "20000 bytes cannot be met"},
        {"--target-bpw", "2", "2 bits a weight cannot be met, the smallest candidates take at "},
        {"--target-bpw", "3", "at least 3."}}) {
    fs::remove(directory() / "out.calib");
    const Outcome outcome = squish(command({"--text", text(), flag, value}));
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr(words));
    EXPECT_FALSE(fs::exists(directory() / "out" / "squish.json"));
    // The formulas tell the first two before anything is calibrated or written.
    const bool late = std::string(words) == "at least 3.";
    EXPECT_EQ(fs::exists(directory() / "out"), late);
    EXPECT_EQ(fs::exists(directory() / "out.calib"), late);
    EXPECT_EQ(squish(command({"--dry-run", flag, value})).code, late ? 0 : 1);
    fs::remove_all(directory() / "out");
  }
}

TEST_F(QuantizeToTarget, TheBytesDependNeitherOnThreadsNorOnTheRun) {
  quantize({"--target-bpw", "4", "--threads", "1"});
  const auto one = bytes();
  quantize({"--target-bpw", "4", "--resume"});  // whole already
  EXPECT_EQ(bytes(), one);
  fs::remove_all(directory() / "out");
  quantize({"--target-bpw", "4", "--threads", "2"});
  EXPECT_EQ(bytes(), one);
}

TEST_F(QuantizeToTarget, AnotherJobIsNotResumed) {
  quantize({"--target-bpw", "4"});
  const auto whole = bytes();
  for (const auto& [more, words] :
       {std::pair{Words{"--text", text(), "--target-bpw", "5"}, "target was "},
        {{"--text", text(), "--target-size", "50K"}, "target was "},
        {{"--text", text(500), "--target-bpw", "4"}, "the text's digest was "},
        {{"--text", text(500), "--target-bpw", "4", "--calib", "out.calib"},
         "held_out_sha256 was "},
        {{"--text", text(), "--target-bpw", "4", "--tensor", "*q_proj*=int8"}, "single tensors"},
        {{"--text", text(), "--target-bpw", "4", "--seed", "9"}, "seed was "}}) {
    Words words_of = command(more);
    words_of.push_back("--resume");
    const Outcome outcome = squish(words_of);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr(words));
  }
  const Outcome fixed = squish({"quantize", model(), "-o", "out", "--spec", "int4", "--resume"});
  EXPECT_EQ(fixed.code, 1);
  EXPECT_THAT(fixed.err, HasSubstr("target was "));
  EXPECT_EQ(bytes(), whole);
}

TEST_F(QuantizeToTarget, ForeignCandidatesAndPlansAreNotBelieved) {
  quantize({"--target-bpw", "4", "--threads", "1"});
  const auto whole = bytes();
  const fs::path out = directory() / "out", first = out / "model-00002-of-00015.safetensors";
  ASSERT_EQ(squish({"quantize", model(), "-o", "int8", "--spec", "int8:g=0"}).code, 0);
  const auto unfinish = [&] {
    fs::rename(out / "squish.json", out / "squish.job.json");
    for (const auto& entry : fs::directory_iterator(out)) {
      if (entry.path().filename().string().starts_with("model-")) fs::remove(entry.path());
    }
    fs::create_directories(out / "candidates");
  };
  const auto resumes_to_the_same = [&] {
    quantize({"--target-bpw", "4", "--threads", "1", "--resume"});
    EXPECT_EQ(bytes(), whole);
  };
  unfinish();  // a plan beyond the target
  json plan = file("squish.plan.json");
  for (json& tensor : plan["tensors"]) tensor["choice"] = 3;
  std::ofstream(out / "squish.plan.json") << plan.dump();
  resumes_to_the_same();
  unfinish();  // whole files of the right tensor by another spec, and a link
  const fs::path other = directory() / "int8" / first.filename();
  for (const char* candidate : {"0", "1", "2"}) {
    fs::create_directories(out / "candidates" / candidate);
    fs::copy_file(other, out / "candidates" / candidate / "00000.safetensors");
  }
  std::ofstream(out / "candidates" / "0" / "00001.safetensors") << "garbage";
  fs::copy_file(other, first);
  fs::remove(out / "squish.plan.json");
  resumes_to_the_same();
  EXPECT_TRUE(fs::exists(other));
}

TEST_F(QuantizeToTarget, KeptCandidatesServeOtherTargets) {
  std::map<std::string, std::map<std::string, std::string>> expected;
  for (const char* bits : {"4", "5"}) {
    quantize({"--target-bpw", bits});
    expected[bits] = bytes();
    fs::remove_all(directory() / "out");
  }
  const std::string kept = (directory() / "kept").string();
  const auto quantize_with_them = [&](const char* bits) {
    fs::create_directories(kept);
    std::ofstream(fs::path(kept) / "film.partial") << "somebody else's";
    quantize({"--target-bpw", bits, "--candidates", kept});
    EXPECT_EQ(fs::remove(fs::path(kept) / "film.partial"), true) << "was removed";
    EXPECT_EQ(bytes(), expected[bits]);
    const std::string log = read_file(directory() / "out" / "squish.log.jsonl");
    fs::remove_all(directory() / "out");
    return std::count(log.begin(), log.end(), '\n');
  };
  EXPECT_EQ(quantize_with_them("4"), 4 * 14);
  const auto folders = [&] {
    return std::distance(fs::directory_iterator(kept), fs::directory_iterator());
  };
  EXPECT_EQ(folders(), 4);
  EXPECT_EQ(quantize_with_them("5"), 0);
  for (const auto& entry : fs::recursive_directory_iterator(kept)) {
    if (entry.path().filename() == "00003.safetensors") std::ofstream(entry.path()) << "garbage";
  }
  EXPECT_EQ(quantize_with_them("4"), 4);
  quantize({"--target-bpw", "4", "--candidates", kept, "--seed", "3"});
  EXPECT_EQ(folders(), 8);
}

TEST_F(QuantizeToTarget, LimitedMemoryChangesNoByte) {
  quantize({"--target-bpw", "4"});
  const auto whole = bytes();
  fs::remove_all(directory() / "out");
  const Outcome plan = squish(command({"--target-bpw", "4", "--threads", "1", "--dry-run"}));
  const std::size_t at = plan.out.find("peak memory: ");
  ASSERT_NE(at, std::string::npos) << plan.out;
  const int megabytes = std::stoi(plan.out.substr(at + 13));
  quantize({"--target-bpw", "4", "--max-memory", std::to_string(megabytes + 1) + "M"});
  EXPECT_EQ(bytes(), whole);
}

TEST_F(QuantizeToTarget, WrongRequestsFailBeforeAnythingRuns) {
  expect_failure(command({"--target-bpw", "3", "--target-size", "3M"}), 2, "--target-size");
  for (const char* const size : {"3X", "M", "-3", "0", "1e30", "3 M"}) {
    expect_failure(command({"--target-size", size}), 2, "--target-size");
  }
  expect_failure(command({"--target-bpw", "-1"}), 2, "--target-bpw");
  expect_failure(command({"--text", text(), "--target-bpw", "4", "--max-memory", "1K"}), 1,
                 "this job needs about");
  expect_failure({"quantize", model(), "-o", "out"}, 2, "--spec");
  expect_failure(
      {"quantize", model(), "-o", "out", "--target-bpw", "4", "--spec", "int4;int4:g=64"}, 2,
      "is there twice");
  expect_failure({"quantize", model(), "-o", "out", "--spec", "int4", "--candidates", "kept"}, 2,
                 "with a target");
  for (const char* inside : {"out", "out/candidates", "./out/x/../y"}) {
    expect_failure(command({"--text", text(), "--target-bpw", "4", "--candidates", inside}), 2,
                   "outside");
  }
  std::ofstream(directory() / "file") << "x";
  const Outcome outcome =
      squish(command({"--text", text(), "--target-bpw", "4", "--candidates", "file"}));
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("file: expected a directory"));
  fs::remove(directory() / "file");
  EXPECT_FALSE(fs::exists(directory() / "out"));
  expect_failure(command({}), 2, "int2");  // a list without a target
}

TEST_F(QuantizeToTarget, DryRunNamesTheCandidatesAndWritesNothing) {
  const Outcome outcome = squish(command({"--target-bpw", "4", "--dry-run"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("target: 4 bits a weight"));
  EXPECT_THAT(outcome.out, HasSubstr("quip:bits=3"));
  EXPECT_TRUE(fs::is_empty(directory()));
}

TEST_F(QuantizeToTarget, KilledAtRandomPointsItResumesToTheSameBytes) {
  const Words words =
      command({"--text", text(), "--target-bpw", "4", "--threads", "1", "--resume"});
  const auto run = [&] { return start(words, "/dev/null", directory() / "errors"); };
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(wait_for(run()), 0) << read_file(directory() / "errors");
  Patience patience(std::chrono::steady_clock::now() - begin, "kill");
  const auto whole = bytes();
  fs::remove_all(directory() / "out");

  constexpr std::size_t kKills = 10;
  std::size_t killed = 0;
  for (std::size_t i = 0; killed < kKills; ++i) {
    ASSERT_LT(i, 10 * kKills) << "the job is over before it can be killed";
    const pid_t child = run();
    patience.wait();
    ::kill(child, SIGKILL);
    const int code = wait_for(child);
    patience.learn(code == 0);
    ASSERT_TRUE(code == 0 || code == 128 + SIGKILL) << read_file(directory() / "errors");
    killed += code != 0;
    if (code != 0 && !fs::exists(directory() / "out" / "squish.json")) continue;
    ASSERT_EQ(wait_for(run()), 0) << read_file(directory() / "errors");
    ASSERT_EQ(bytes(), whole);
    fs::remove_all(directory() / "out");
  }
  ASSERT_EQ(wait_for(run()), 0) << read_file(directory() / "errors");
  EXPECT_EQ(bytes(), whole);
}

}  // namespace
}  // namespace squish::test
