#include "squish/report/rows.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace squish::report {
namespace {

const Json kBench = {{"stage1", {{{"spec", "int4:sym=0,g=64"}, {"snr_db", 21.5}}}},
                     {"stage2",
                      {{{"spec", "a \"b\""}, {"tps", {{"median", 3.5}, {"runs", 2}}}},
                       {{"spec", "c\nd"}, {"ppl", nullptr}, {"ok", true}}}}};

TEST(Rows, AsCsvHaveTheFieldsOfAll) {
  EXPECT_EQ(to_csv(kBench),
            "stage,spec,snr_db,tps.median,tps.runs,ppl,ok\n"
            "1,\"int4:sym=0,g=64\",21.5,,,,\n"
            "2,\"a \"\"b\"\"\",,3.5,2,,\n"
            "2,\"c\nd\",,,,,true\n");
  EXPECT_EQ(to_csv({{"rows", {{{"spec", "x"}}}}}), "spec\nx\n");
  EXPECT_EQ(to_csv(Json::object()), "\n");
}

TEST(Rows, AsLinesOfJsonAreTheRows) {
  EXPECT_EQ(to_jsonl(kBench),
            "{\"stage\":1,\"spec\":\"int4:sym=0,g=64\",\"snr_db\":21.5}\n"
            "{\"stage\":2,\"spec\":\"a \\\"b\\\"\",\"tps\":{\"median\":3.5,\"runs\":2}}\n"
            "{\"stage\":2,\"spec\":\"c\\nd\",\"ppl\":null,\"ok\":true}\n");
  EXPECT_EQ(to_jsonl(Json::object()), "");
}

}  // namespace
}  // namespace squish::report
