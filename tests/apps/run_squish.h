#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "squish/base/random.h"

namespace squish::test {

inline std::string read_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

struct Outcome {
  int code;
  std::string out, err;
};

/// When to kill a job, by a random share of the longest time that one is left to run, which follows
/// how fast the machine is just now.
class Patience {
 public:
  Patience(std::chrono::duration<double> whole_job, std::string_view stream)
      : longest_(whole_job), random_(1, stream) {}
  void wait() { std::this_thread::sleep_for(longest_ * random_.uniform(waits_++)); }
  void learn(bool job_ended) { longest_ *= job_ended ? 0.7 : 1.1; }

 private:
  std::chrono::duration<double> longest_;
  CounterRng random_;
  std::uint64_t waits_ = 0;
};

/// A directory of its own for each test, in which the program runs.
class Program : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    directory_ = std::filesystem::temp_directory_path() /
                 (std::string("squish_") + info->name() + "_" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  const std::filesystem::path& directory() const { return directory_; }

  static void nothing() {}
  /// Starts `squish arguments...` in the directory, its output in these files; `prepare` runs in
  /// the child before the program does.
  template <class Prepare = void (*)()>
  pid_t start(const std::vector<std::string>& arguments, const std::filesystem::path& out,
              const std::filesystem::path& err, const Prepare& prepare = nothing) const {
    std::vector<std::string> words = {SQUISH_BINARY};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
      ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
      ::setenv("XDG_CACHE_HOME", (directory_ / "cache").c_str(), 1);  // not the user's
      prepare();
      if (::chdir(directory_.c_str()) == 0) ::execv(SQUISH_BINARY, argv.data());
      ::_exit(127);
    }
    return child;
  }
  /// Its exit code, or 128 and the signal that ended it.
  static int wait_for(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  /// Runs `squish arguments...` to its end.
  Outcome squish(const std::vector<std::string>& arguments) const {
    const std::filesystem::path out = directory_ / ".stdout", err = directory_ / ".stderr";
    const int code = wait_for(start(arguments, out, err));
    Outcome outcome{code, read_file(out), read_file(err)};
    std::filesystem::remove(out);
    std::filesystem::remove(err);
    return outcome;
  }

  /// The program fails with this code and one line that contains `words`, and writes nothing else.
  void expect_failure(const std::vector<std::string>& arguments, int code,
                      const std::string& words) const {
    const Outcome outcome = squish(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err.find("squish: "), 0u) << outcome.err;
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err;
    EXPECT_TRUE(std::filesystem::is_empty(directory_));
  }

 private:
  std::filesystem::path directory_;
};

}  // namespace squish::test
