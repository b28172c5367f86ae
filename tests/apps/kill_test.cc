// `quantize` killed at random points, out of room, and without permission.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <chrono>
#include <map>
#include <thread>

#include "squish/base/random.h"
#include "tests/apps/run_squish.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

class Killed : public Program {
 protected:
  /// Everything but the log, which holds times.
  static std::map<std::string, std::string> bytes_of(const fs::path& directory) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(directory)) {
      const std::string name = entry.path().filename();
      if (name != "squish.log.jsonl") files[name] = read_file(entry.path());
    }
    return files;
  }

  /// Starts the job on `out`; the child may set itself limits first.
  template <class Prepare>
  pid_t start_job(const std::string& out, const Prepare& prepare) const {
    return start({"quantize", model_.path().string(), "-o", out, "--spec", "aqlm:m=2,b=4",
                  "--threads", "1", "--resume"},
                 "/dev/null", directory() / "errors", prepare);
  }
  int run(const std::vector<std::string>& words) const {
    return wait_for(start(words, "/dev/null", directory() / "errors"));
  }
  std::string model() const { return model_.path().string(); }
  /// Some thousands of tokens.
  std::string text() const {
    std::string words;
    for (int i = 0; i < 900; ++i) words += " line " + std::to_string(i) + "\n";
    std::ofstream(directory() / "text") << words;
    return (directory() / "text").string();
  }
  int run(const std::string& out) const {
    return wait_for(start_job(out, [] {}));
  }
  std::string errors() const { return read_file(directory() / "errors"); }

 private:
  TinyModel model_;
};

TEST_F(Killed, AtRandomPointsItResumesToTheSameBytes) {
  const auto begin = Clock::now();
  ASSERT_EQ(run("whole"), 0) << errors();
  Patience patience(Clock::now() - begin, "kill");
  const auto whole = bytes_of(directory() / "whole");

  constexpr std::size_t kKills = 60;
  std::size_t killed = 0, jobs = 0;
  for (std::size_t i = 0; killed < kKills; ++i) {
    ASSERT_LT(i, 10 * kKills) << "the job is over before it can be killed";
    const pid_t child = start_job("out", [] {});
    patience.wait();
    ::kill(child, SIGKILL);
    const int code = wait_for(child);
    patience.learn(code == 0);
    killed += code == 128 + SIGKILL;
    ASSERT_TRUE(code == 0 || code == 128 + SIGKILL) << errors();
    const bool is_whole = fs::exists(directory() / "out" / "squish.json");
    if (code != 0 && !is_whole) continue;  // on with the same directory
    // A manifest means that all is there, even if the process was killed after it.
    ASSERT_EQ(run("out"), 0) << errors();
    ASSERT_EQ(bytes_of(directory() / "out"), whole);
    fs::remove_all(directory() / "out");
    ++jobs;
  }
  ASSERT_EQ(run("out"), 0) << errors();
  EXPECT_EQ(bytes_of(directory() / "out"), whole);
  EXPECT_GT(jobs, 2u);
}

TEST_F(Killed, StoppedByASignalItSavesAndSaysHowToGoOn) {
  const std::vector<std::string> calibrate = {"calibrate",    model(),  "--text",  text(),     "-o",
                                              "c.calib",      "--ctx",  "2",       "--tokens", "0",
                                              "--save-every", "100000", "--resume"};
  ASSERT_EQ(run(calibrate), 0) << errors();
  const std::string whole = read_file(directory() / "c.calib");
  const CounterRng random(2, "stop");
  std::size_t stopped = 0;
  for (const int signal : {SIGINT, SIGTERM, SIGINT, SIGTERM}) {
    fs::remove(directory() / "c.calib");
    for (std::uint64_t i = 0; i < 20; ++i) {
      const pid_t child = start(calibrate, "/dev/null", directory() / "errors");
      std::this_thread::sleep_for(std::chrono::duration<double>(0.02 + 0.3 * random.uniform(i)));
      ::kill(child, signal);
      const int code = wait_for(child);
      if (code == 0) break;
      if (errors().find("stopping at") == std::string::npos) continue;  // before it could note it
      ASSERT_EQ(code, 128 + signal) << errors();
      EXPECT_THAT(errors(), HasSubstr("the same command with --resume goes on"));
      ++stopped;
    }
    ASSERT_EQ(run(calibrate), 0) << errors();
    EXPECT_EQ(read_file(directory() / "c.calib"), whole);
  }
  EXPECT_GT(stopped, 0u);
}

TEST_F(Killed, WithoutRoomItFailsInOneSentenceAndResumesLater) {
  ASSERT_EQ(run("whole"), 0);
  const auto whole = bytes_of(directory() / "whole");
  // Files of at most so many bytes: the job file, a tensor, the plain tensors, the manifest, ...
  for (const rlim_t limit : {100, 600, 1500, 3000, 5000, 20000}) {
    const int code = wait_for(start_job("out", [limit] {
      ::signal(SIGXFSZ, SIG_IGN);
      const struct rlimit room { limit, limit };
      ::setrlimit(RLIMIT_FSIZE, &room);
    }));
    if (code == 0) {
      EXPECT_EQ(bytes_of(directory() / "out"), whole);
      fs::remove_all(directory() / "out");
      continue;
    }
    EXPECT_EQ(code, 1);
    EXPECT_THAT(errors(), HasSubstr("cannot be written: "));
    EXPECT_FALSE(fs::exists(directory() / "out" / "squish.json")) << limit;
    for (const auto& entry : fs::directory_iterator(directory() / "out")) {
      EXPECT_NE(entry.path().extension(), ".partial") << entry.path();
    }
  }
  ASSERT_EQ(run("out"), 0) << errors();
  EXPECT_EQ(bytes_of(directory() / "out"), whole);
}

TEST_F(Killed, AFolderThatCannotBeWrittenIsRefused) {
  EXPECT_EQ(run("/proc/out"), 1);
  EXPECT_THAT(errors(), HasSubstr("squish: /proc/out: cannot be made"));
  if (::geteuid() == 0) return;  // whom permissions do not stop
  fs::create_directory(directory() / "closed");
  fs::permissions(directory() / "closed", fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_EQ(run("closed/out"), 1);
  EXPECT_EQ(run("closed"), 1);
  EXPECT_TRUE(fs::is_empty(directory() / "closed"));
}

}  // namespace
}  // namespace squish::test
