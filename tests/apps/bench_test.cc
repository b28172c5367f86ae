#include <gmock/gmock.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <regex>

#include "squish/evaluate/presets.h"
#include "tests/apps/run_squish.h"

namespace squish::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Bench : public Program {
 protected:
  json results(const std::string& name = "dev/results/quant_2bit_comparison.json") const {
    return json::parse(read_file(directory() / name));
  }
};

TEST_F(Bench, TheDefaultRunHasEveryRowOfTheTableWithItsNominalBits) {
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = squish({"bench", "--markdown"});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(outcome.code, 0) << outcome.err;
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(seconds.count(), 15);
#else
  (void)seconds;
#endif

  // metrics.md, 'Specs', for 64 rows.
  const std::vector<std::pair<std::string, double>> table = {
      {"int4:sym=0,g=64", 5.0},   {"int4:sym=0,g=64,clip=mse", 5.0},
      {"int4:sym=1,g=64", 4.5},   {"vptq:v=8,k=16,r=4", 1.25},
      {"vptq:v=8,k=256,r=16", 2}, {"aqlm:m=2,b=4,g=4", 2.0},
      {"quip:form=gain", 3.0},    {"quip:bits=2", 2.0},
      {"quip:bits=3", 3.0},       {"quip:bits=4", 4.0},
      {"trellis:bits=2", 2.0},    {"trellis:bits=3", 3.0},
      {"trellis:bits=4", 4.0}};
  const json rows = results()["stage1"];
  ASSERT_EQ(rows.size(), table.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    const json& row = rows[i];
    EXPECT_EQ(row["spec"], table[i].first);
    EXPECT_EQ(row["status"], "ok");
    EXPECT_EQ(row["bpw_nominal"], table[i].second) << row["spec"];
    EXPECT_GT(row["snr_db"], 2) << row["spec"];
    EXPECT_GT(row["shannon_gap_db"], 0) << row["spec"];
    EXPECT_THAT(outcome.out, HasSubstr("| " + table[i].first + " "));
  }
}

/// What the page's script is given.
json data_of(const std::string& page) {
  const std::string start = "id=\"data\">";
  const std::size_t from = page.find(start) + start.size();
  return json::parse(page.substr(from, page.find("</script>", from) - from));
}

TEST_F(Bench, ThePageShowsTheFile) {
  const std::vector<std::string> bench = {"bench",  "--methods", "int4:g=8;int2:g=8",
                                          "--rows", "24",        "--cols",
                                          "40",     "--output",  "r.json"};
  std::vector<std::string> with_page = bench;
  with_page.insert(with_page.end(), {"--html", "bench.html"});
  const Outcome outcome = squish(with_page);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("page: bench.html"));
  const json data = data_of(read_file(directory() / "bench.html"));
  EXPECT_EQ(data["files"][0]["stage1"], results("r.json")["stage1"]);
  ASSERT_EQ(squish({"report", "r.json", "-o", "report.html"}).code, 0);
  EXPECT_EQ(data_of(read_file(directory() / "report.html")), data);

  with_page.back() = "./r.json";
  EXPECT_THAT(squish(with_page).err, HasSubstr("is the results file"));
  EXPECT_THAT(squish({"report", "r.json", "-o", "r.json"}).err, HasSubstr("replace an input"));
  EXPECT_THAT(squish({"report", "bench.html"}).err, HasSubstr("bench.html"));
}

TEST_F(Bench, StandardOutputHasTheFormatAskedForAndNothingElse) {
  const auto out = [&](const char* format) {
    const Outcome outcome = squish({"bench", "--methods", "int4:g=8;int2:g=8", "--rows", "24",
                                    "--cols", "40", "--output", "r.json", "--format", format});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out;
  };
  EXPECT_EQ(out("none"), "");
  EXPECT_THAT(out("md"), HasSubstr("| int4:g=8 |"));
  const json printed = json::parse(out("json"));
  EXPECT_EQ(printed, results("r.json"));
  std::istringstream lines(out("jsonl")), table(out("csv"));
  std::string line;
  for (const char* const spec : {"int4:g=8", "int2:g=8"}) {
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(json::parse(line)["spec"], spec);
  }
  EXPECT_FALSE(std::getline(lines, line));
  ASSERT_TRUE(std::getline(table, line));
  EXPECT_TRUE(line.starts_with("stage,method,spec,spec_full,seed,status,rows,cols,bpw,")) << line;
  ASSERT_TRUE(std::getline(table, line));
  EXPECT_TRUE(line.starts_with("1,int4,int4:g=8,")) << line;
  EXPECT_EQ(squish({"bench", "--format", "xml"}).code, 2);
  EXPECT_EQ(squish({"bench", "--format", "csv", "--markdown"}).code, 2);
}

TEST_F(Bench, TheFileHasTheFieldsOfTheSchema) {
  ASSERT_EQ(squish({"bench", "--methods", "int4:sym=1;int2:g=8", "--rows", "24", "--cols", "40",
                    "--seed", "7", "--threads", "2", "--isa", "scalar", "--output", "r.json"})
                .code,
            0);
  const json file = results("r.json");
  EXPECT_EQ(file["schema"], "squish.bench/1");
  EXPECT_TRUE(std::regex_match(file["created"].get<std::string>(),
                               std::regex(R"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ)")));
  EXPECT_EQ(file["host"]["threads"], 2);
  EXPECT_EQ(file["host"]["isa"], "scalar");
  EXPECT_GT(file["host"]["read_bandwidth_gbs"], 0.05);
  EXPECT_LT(file["host"]["read_bandwidth_gbs"], 10000);
  for (const char* const key : {"version", "commit", "compiler"}) {
    EXPECT_FALSE(file["squish"][key].get<std::string>().empty()) << key;
  }
  for (const char* const key : {"markdown", "output", "preset", "methods", "rows", "cols", "sigma",
                                "seed", "threads", "isa"}) {
    EXPECT_TRUE(file["config"].contains(key)) << key;
  }
  EXPECT_EQ(file["config"]["seed"], 7);
  EXPECT_EQ(file["config"]["rows"], 24);
  EXPECT_EQ(file["config"]["threads"], 2);
  EXPECT_TRUE(file["stage2"].empty());
  ASSERT_EQ(file["stage1"].size(), 2u);
  const json& row = file["stage1"][1];
  EXPECT_EQ(row["method"], "int2");
  EXPECT_EQ(row["spec"], "int2:g=8");
  EXPECT_EQ(row["spec_full"], "int2:sym=0,g=8,clip=none,scale=f32,order=act,damp=0.01,sweeps=3");
  EXPECT_EQ(row["seed"], 7);
  EXPECT_EQ(row["backend"], "cpp-scalar");
  EXPECT_EQ(row["rows"], 24);
  EXPECT_EQ(row["cols"], 40);
  std::uint64_t bits = 0;
  for (const char* const part : {"indices", "scales", "codebooks", "other"}) {
    bits += row["bits"][part].get<std::uint64_t>();
  }
  EXPECT_DOUBLE_EQ(row["bpw"], static_cast<double>(bits) / (24 * 40));
  EXPECT_NEAR(row["shannon_gap_db"].get<double>(),
              6.0206 * row["bpw"].get<double>() - row["snr_db"].get<double>(), 1e-3);
  for (const char* const time : {"compress_ms", "decompress_ms"}) {
    const json& timing = row[time];
    EXPECT_GE(timing["runs"], 5);
    EXPECT_GT(timing["min"], 0);
    EXPECT_LE(timing["min"], timing["median"]);
    EXPECT_LE(timing["median"], timing["max"]);
  }
}

TEST_F(Bench, StandardOutputHoldsTheTableAndOnlyIfAsked) {
  const std::vector<std::string> arguments = {"bench", "--methods", "int4:g=32", "--output", "r"};
  EXPECT_EQ(squish(arguments).out, "");
  std::vector<std::string> with_table = arguments;
  with_table.push_back("--markdown");
  const std::string table = squish(with_table).out;
  std::istringstream lines(table);
  std::string caption, empty, title, line;
  std::getline(lines, caption);
  std::getline(lines, empty);
  std::getline(lines, title);
  EXPECT_THAT(caption, HasSubstr("64 x 64, i.i.d. N(0, 0.02²), seed 42; "));
  EXPECT_EQ(std::regex_replace(title, std::regex(" +"), " "),
            "| Method | BPW nominal | BPW stored | SNR (dB) | Compress (ms) | Decompress (ms) | "
            "Backend |");
  while (std::getline(lines, line)) EXPECT_EQ(line.front(), '|') << line;
}

TEST_F(Bench, AFailingRowSaysWhyAndTheOthersStillRun) {
  // Weights of 1e7 need scales beyond f16.
  const Outcome outcome = squish({"bench", "--sigma", "1e7", "--methods",
                                  "int4:scale=f16;int4:g=32", "--output", "r.json", "--markdown"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("squish: 1 of 2 rows failed"));
  EXPECT_THAT(outcome.out, HasSubstr("`int4:scale=f16` failed: "));
  const json rows = results("r.json")["stage1"];
  EXPECT_THAT(rows[0]["status"].get<std::string>(), HasSubstr("scale"));
  EXPECT_FALSE(rows[0].contains("snr_db"));
  EXPECT_EQ(rows[1]["status"], "ok");
}

TEST_F(Bench, TheSameSeedGivesTheSameResultWhateverTheThreads) {
  const std::vector<std::string> arguments = {"bench", "--rows",   "70",    "--cols",
                                              "96",    "--output", "r.json"};
  std::vector<json> snr;
  for (const char* const threads : {"1", "3"}) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {"--threads", threads, "--methods", "int4:clip=mse"});
    ASSERT_EQ(squish(all).code, 0);
    snr.push_back(results("r.json")["stage1"][0]["snr_db"]);
  }
  EXPECT_EQ(snr[0], snr[1]);
}

TEST_F(Bench, WrongRequestsFailBeforeAnythingRuns) {
  expect_failure({"bench", "--methods", "nope:g=3"}, 2, "unknown method 'nope'");
  expect_failure({"bench", "--methods", "int4;;int4"}, 2, "empty spec");
  expect_failure({"bench", "--methods", "int4:g=x"}, 2, "g=x");
  expect_failure({"bench", "--preset", "slow"}, 2, "fast or high-fidelity");
  expect_failure({"bench", "--rows", "0"}, 2, "--rows");
  expect_failure({"bench", "--sigma", "-1"}, 2, "--sigma");
  for (const char* const sigma : {"nan", "inf", "0", "1e11", "x"}) {
    expect_failure({"bench", "--sigma", sigma}, 2, "--sigma");
  }
  for (const char* const flag : {"--seed", "--ppl-tokens", "--ctx", "--tps-tokens", "--rows"}) {
    expect_failure({"bench", flag, "-1"}, 2, flag);
  }
  for (const char* const flag : {"--model-dir", "--weights", "--methods", "--output"}) {
    expect_failure({"bench", flag, ""}, 2, flag);
  }
  expect_failure({"bench", "--weights", "w.gguf", "--rows", "8"}, 2, "--weights");
  expect_failure({"bench", "--ppl-protocol", "hf"}, 2, "gptq or llama.cpp");
  expect_failure({"bench", "--ppl-tokens", "1"}, 2, "--ppl-tokens 1");
  expect_failure({"bench", "--ctx", "2", "--ppl-protocol", "llama.cpp"}, 2, "--ctx 2");
  expect_failure({"bench", "--ppl-data", "/nonexistent"}, 1, "/nonexistent");
  expect_failure({"bench", "--output", "/proc/none/r.json"}, 1, "/proc/none");
  expect_failure({"bench", "--output", "/dev/null"}, 1, "regular file");
}

}  // namespace
}  // namespace squish::test
