// `squish calibrate` on a tiny model, end to end.
#include <gmock/gmock.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/apps/run_squish.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::test {
namespace {

using ::testing::HasSubstr;

class Calibrate : public Program {
 protected:
  Calibrate() {
    std::string words;
    for (int i = 0; i < 400; ++i)
      words += " line " + std::to_string(i * 7919) + " of a text with lines that are told apart\n";
    std::ofstream(model_.path() / "text") << words;
  }
  std::string model() const { return model_.path().string(); }
  std::string text() const { return (model_.path() / "text").string(); }
  std::string bytes(const std::string& name) const { return read_file(directory() / name); }
  std::vector<std::string> command(const std::string& out,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"calibrate", model(),    "--text", text(),         "-o",
                                      out,         "--tokens", "2400",   "--save-every", "0"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  /// Starts the command and kills it as soon as it has saved something (or has ended).
  void kill_once_saved(const std::vector<std::string>& arguments, const std::string& out,
                       std::chrono::milliseconds more) const {
    const pid_t child = start(arguments, "/dev/null", "/dev/null");
    const auto saved = directory() / (out + ".unfinished") / "block-0";
    while (!std::filesystem::exists(saved) && ::waitpid(child, nullptr, WNOHANG) == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    std::this_thread::sleep_for(more);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }

 private:
  TinyModel model_;
};

TEST_F(Calibrate, WritesTheSameForAnyNumberOfThreads) {
  const Outcome outcome = squish(command("a", {"--threads", "1"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("a: 8 inputs; model "));
  EXPECT_THAT(outcome.out, HasSubstr("2400 tokens of " + text() +
                                     ", the first 85 % of its lines "
                                     "(gptq-96@25, text "));
  ASSERT_EQ(squish(command("b", {"--threads", "3"})).code, 0);
  EXPECT_EQ(bytes("a"), bytes("b"));
  EXPECT_FALSE(std::filesystem::exists(directory() / "a.unfinished"));
}

TEST_F(Calibrate, KilledAndResumedEqualsUninterrupted) {
  ASSERT_EQ(squish(command("whole")).code, 0);
  const std::string expected = bytes("whole");
  int caught = 0;
  for (int i = 0; i < 6; ++i) {
    kill_once_saved(command("k"), "k", std::chrono::milliseconds(i));
    caught += std::filesystem::exists(directory() / "k.unfinished") ? 1 : 0;
    kill_once_saved(command("k", {"--resume"}), "k", std::chrono::milliseconds(i));
    const Outcome outcome = squish(command("k", {"--resume", "--threads", "1"}));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(bytes("k") == expected) << i;
    EXPECT_FALSE(std::filesystem::exists(directory() / "k.unfinished"));
    std::filesystem::remove(directory() / "k");
  }
  EXPECT_GT(caught, 0);
}

TEST_F(Calibrate, RefusesToResumeAnotherJob) {
  kill_once_saved(command("k"), "k", std::chrono::milliseconds(0));
  if (std::filesystem::exists(directory() / "k")) GTEST_SKIP() << "it was too fast";
  const Outcome outcome = squish(command("k", {"--resume", "--ctx", "48"}));
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("the protocol was gptq-96 and is gptq-48"));
}

TEST_F(Calibrate, MergesTextsAndHasAHeldOutPart) {
  ASSERT_EQ(squish(command("a")).code, 0);
  const Outcome held_out = squish(command("b", {"--held-out"}));
  ASSERT_EQ(held_out.code, 0) << held_out.err;
  EXPECT_THAT(held_out.out, HasSubstr("the last 15 % of its lines"));
  const Outcome merged = squish({"calibrate", "--merge", "a", "b", "-o", "both"});
  ASSERT_EQ(merged.code, 0) << merged.err;
  EXPECT_THAT(merged.out, HasSubstr("the first 85 %"));
  EXPECT_THAT(merged.out, HasSubstr("the last 15 %"));
  const Outcome twice = squish({"calibrate", "--merge", "a", "a", "-o", "c"});
  EXPECT_EQ(twice.code, 1);
  EXPECT_THAT(twice.err, HasSubstr("same text"));
}

TEST_F(Calibrate, BenchComparesEveryMethodCalibratedAndNot) {
  ASSERT_EQ(squish(command("a")).code, 0);
  const std::vector<std::string> bench = {
      "bench",        "--model-dir", model(),        "--methods", "int3:g=16",
      "--ppl-tokens", "300",         "--tps-tokens", "4",         "--markdown",
      "--output",     "r.json",      "--calib",      "a",         "--ppl-data"};
  std::vector<std::string> words = bench;
  words.push_back(text());
  const Outcome seen = squish(words);
  ASSERT_EQ(seen.code, 0) << seen.err;
  EXPECT_THAT(seen.out, HasSubstr("int3:g=16 calibrated"));
  EXPECT_THAT(seen.out, HasSubstr("THE CALIBRATION HAS SEEN THIS TEXT"));
  const auto json = nlohmann::json::parse(bytes("r.json"));
  ASSERT_EQ(json["stage2"].size(), 3u);
  EXPECT_EQ(json["stage2"][1]["calibrated"], false);
  EXPECT_EQ(json["stage2"][2]["calibrated"], true);
  EXPECT_EQ(json["stage2"][1]["spec_full"], json["stage2"][2]["spec_full"]);
  EXPECT_NE(json["stage2"][1]["nll"], json["stage2"][2]["nll"]);
  EXPECT_GT(json["calibration"]["lines_shared_with_ppl_data"], 0);
  EXPECT_EQ(json["calibration"]["runs"][0]["tokens"], 2400);

  std::ofstream(directory() / "other") << std::string(400, 'x') << "\n";
  words = bench;
  words.push_back("other");
  const Outcome unseen = squish(words);
  ASSERT_EQ(unseen.code, 0) << unseen.err;
  EXPECT_THAT(unseen.out, ::testing::Not(HasSubstr("HAS SEEN THIS TEXT")));

  const TinyModel another(2);
  words[2] = another.path().string();
  const Outcome refused = squish(words);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("a: made from a model with the digest "));
}

TEST_F(Calibrate, WritesOverNothingThatItReads) {
  for (const char* name : {"a", "b"}) {
    ASSERT_EQ(squish({"calibrate", model(), "--text", text(), "--tokens", "64", "--ctx", "32", "-o",
                      name})
                  .code,
              0);
  }
  const std::string before = read_file(directory() / "a");
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"calibrate", "--merge", "a", "b", "-o", "a"},
           {"calibrate", "--merge", "a", "b", "-o", "c", "--tokens", "64"},
           {"bench", "--model-dir", model(), "--calib", "a", "--output", "a"},
           {"bench", "--model-dir", model(), "--calib", "a", "--output", "c", "--html", "a"}}) {
    EXPECT_EQ(squish(words).code, 2) << words[0] << " " << words.back();
    EXPECT_EQ(read_file(directory() / "a"), before);
  }
}

TEST_F(Calibrate, RefusesSenselessRequests) {
  expect_failure({"calibrate", "-o", "x"}, 2, "either a MODEL or --merge");
  expect_failure({"calibrate", model(), "--merge", "a", "b", "-o", "x"}, 2,
                 "either a MODEL or --merge");
  expect_failure(command("x", {"--ctx", "1"}), 2, "--ctx 1");
  expect_failure({"calibrate", model(), "--text", text(), "-o", text()}, 2,
                 "would replace an input");
  expect_failure({"bench", "--calib", "a"}, 2, "--calib a: a calibration is for stage 2");
  expect_failure({"calibrate", "--merge", "a", text(), "-o", "x"}, 1, "a: cannot be opened");
}

}  // namespace
}  // namespace squish::test
