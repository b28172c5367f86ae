#include <gmock/gmock.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "squish/base/version.h"
#include "squish/quant/quantizer.h"
#include "tests/apps/run_squish.h"

namespace squish::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

using Main = Program;

TEST_F(Main, VersionNamesCommitCompilerInstructionSetAndBlas) {
  const Outcome outcome = squish({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, StartsWith(std::string("squish ") + kVersion));
  for (const char* const part : {kCommit, kCompiler, "scalar", "OpenBLAS"}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
  EXPECT_EQ(outcome.err, "");
}

TEST_F(Main, HelpListsEverySubcommandAndExamples) {
  const Outcome outcome = squish({"--help"});
  EXPECT_EQ(outcome.code, 0);
  for (const char* const part : {"bench", "methods", "Examples", "Exit codes"}) {
    EXPECT_THAT(outcome.out, HasSubstr(part));
  }
}

TEST_F(Main, ADiskThatIsFullIsAFailure) {
  const std::string command = SQUISH_BINARY " --help > /dev/full 2> /dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 1);
}

TEST_F(Main, WrongUsageIsOneLineAndExitCode2) {
  expect_failure({}, 2, "subcommand");
  expect_failure({"frobnicate"}, 2, "frobnicate");
  expect_failure({"bench", "--frobnicate"}, 2, "--frobnicate");
  expect_failure({"bench", "--isa", "mmx"}, 2, "mmx");
  expect_failure({"bench", "--threads", "-1"}, 2, "--threads");
}

TEST_F(Main, MethodsListsEveryRegisteredMethodWithItsKeys) {
  const Outcome text = squish({"methods"}), json = squish({"methods", "--json"});
  ASSERT_EQ(text.code, 0);
  ASSERT_EQ(json.code, 0);
  const auto parsed = nlohmann::json::parse(json.out);
  EXPECT_EQ(parsed["schema"], "squish.methods/1");
  ASSERT_EQ(parsed["methods"].size(), quant::methods().size());
  for (std::size_t i = 0; i < quant::methods().size(); ++i) {
    const quant::Method& method = quant::methods()[i];
    const auto& entry = parsed["methods"][i];
    EXPECT_EQ(entry["name"], method.name);
    EXPECT_EQ(entry["source"], method.source);
    EXPECT_THAT(text.out, HasSubstr(method.name + ": " + method.summary));
    ASSERT_EQ(entry["keys"].size(), method.keys.size());
    for (std::size_t k = 0; k < method.keys.size(); ++k) {
      EXPECT_EQ(entry["keys"][k]["name"], method.keys[k].name);
      EXPECT_EQ(entry["keys"][k]["default"], method.keys[k].fallback);
    }
  }
}

}  // namespace
}  // namespace squish::test
