#include "squish/report/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "squish/base/error.h"
#include "squish/base/file.h"

namespace squish::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Json bench_results() {
  return {{"schema", "squish.bench/1"},
          {"created", "2026-11-27T00:00:00Z"},
          {"config", {{"rows", 64}}},
          {"model", {{"path", "m.gguf"}, {"source_quantized", true}}},
          {"stage1", {{{"method", "int4"}, {"spec", "int4:g=32"}, {"status", "ok"}}}},
          {"stage2", Json::array()}};
}

/// The data of the page, as its script reads it.
Json data_of(const std::string& html) {
  const std::string start = R"(<script type="application/json" id="data">)";
  const std::size_t from = html.find(start) + start.size();
  return Json::parse(html.substr(from, html.find("</script>", from) - from));
}

void expect_refused(const Json& results, const std::string& what) {
  Page page;
  try {
    add_results(page, results, "r.json");
    FAIL() << "accepted: " << results.dump();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("r.json"));
    EXPECT_THAT(error.what(), HasSubstr(what));
  }
  EXPECT_TRUE(page.files.empty());
}

TEST(Page, HoldsTheRowsAndNothingThatNeedsANetwork) {
  Page page;
  add_results(page, bench_results(), "r.json");
  const std::string html = to_html(page);
  const Json data = data_of(html);
  EXPECT_EQ(data["files"][0]["stage1"], bench_results()["stage1"]);
  EXPECT_EQ(data["files"][0]["name"], "r.json");
  EXPECT_TRUE(data["files"][0]["source_quantized"]);
  for (const char* const what : {"src=", "href=\"http", "@import", "url("}) {
    EXPECT_THAT(html, Not(HasSubstr(what)));
  }
  EXPECT_THAT(html, Not(HasSubstr("[[data]]")));
}

TEST(Page, RowsOfEvalNameTheirModels) {
  Page page;
  add_results(page,
              {{"schema", "squish.eval/1"},
               {"config", {{"models", {"a/x", "a/y"}}}},
               {"reference", {{"source_quantized", false}}},
               {"rows",
                {{{"method", "mixed"}, {"spec", "mixed"}, {"status", "ok"}},
                 {{"method", "int4"}, {"spec", "int4"}, {"status", "ok"}}}}},
              "e.json");
  EXPECT_EQ(page.files[0]["stage2"][0]["model"], "a/x");
  EXPECT_EQ(page.files[0]["stage2"][1]["model"], "a/y");
  EXPECT_FALSE(page.files[0]["source_quantized"]);
}

TEST(Page, TextsCannotEndTheScript) {
  Json results = bench_results();
  results["stage1"][0]["spec"] = "</script><script>alert(1)</script>\xFF<!--";
  Page page;
  add_results(page, results, "<b>");
  const std::string html = to_html(page);
  EXPECT_THAT(html, Not(HasSubstr("alert(1)</script>")));
  EXPECT_THAT(html, Not(HasSubstr("<b>")));
  EXPECT_THAT(data_of(html)["files"][0]["stage1"][0]["spec"].get<std::string>(),
              HasSubstr("</script><script>alert(1)</script>"));
}

TEST(Page, RefusesWhatIsNoResults) {
  expect_refused(Json::array(), "no schema");
  expect_refused({{"schema", 3}}, "no schema");
  expect_refused({{"schema", "squish.bench/2"}}, "squish.bench/2");
  Json results = bench_results();
  results["stage1"] = "rows";
  expect_refused(results, "\"stage1\"");
  results = bench_results();
  results["stage1"][0].erase("status");
  expect_refused(results, "row 0 of \"stage1\": expected a text \"status\"");
  results = bench_results();
  results["stage2"].push_back(7);
  expect_refused(results, "row 0 of \"stage2\"");
  Page page;
  EXPECT_THROW(add_source(page, "/nonexistent/r.json"), Error);
  EXPECT_THROW(add_source(page, std::filesystem::temp_directory_path()), Error);
}

}  // namespace
}  // namespace squish::report
