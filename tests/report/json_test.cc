#include "squish/report/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace squish::report {
namespace {

TEST(Json, AFailedRowHasAStatusAndNoResults) {
  evaluate::Row<evaluate::MatrixResult> row{
      .method = "int4", .spec = "int4", .spec_full = "int4:g=1", .seed = 3, .status = "because"};
  EXPECT_EQ(
      to_json(row).dump(),
      R"({"method":"int4","spec":"int4","spec_full":"int4:g=1","seed":3,"status":"because"})");
}

TEST(Json, ValuesThatAreNotFiniteAreNullAndAbsentOnesAbsent) {
  evaluate::Row<evaluate::MatrixResult> row;
  row.result = evaluate::MatrixResult{.snr_db = INFINITY};
  const Json json = Json::parse(to_text(to_json(row)));
  EXPECT_TRUE(json["snr_db"].is_null());
  EXPECT_FALSE(json.contains("shannon_gap_db"));
}

TEST(Json, InvalidUtf8DoesNotLoseTheResults) {
  EXPECT_NE(to_text({{"cpu", "a\xFFz"}}).find("z"), std::string::npos);
}

}  // namespace
}  // namespace squish::report
