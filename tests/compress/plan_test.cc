#include "squish/compress/plan.h"

#include <gmock/gmock.h>

#include "squish/base/error.h"
#include "squish/io/model_files.h"

namespace squish::compress {
namespace {

TEST(TableRules, NameEmbeddingAndHeadOfAModelThatHasBoth) {
  io::ModelConfig config;
  config.hidden = 96;
  EXPECT_TRUE(table_rules(config, 0, 0).empty());
  const auto rules = table_rules(config, 4, 8);
  ASSERT_EQ(rules.size(), 2u);
  EXPECT_EQ(rules[0].glob, "model.embed_tokens.weight");
  EXPECT_EQ(rules[0].spec->method(), "int4");
  EXPECT_EQ(rules[0].spec->integer("g"), 32);  // 64 does not divide 96
  EXPECT_EQ(rules[1].glob, "lm_head.weight");
  EXPECT_EQ(rules[1].spec->method(), "int8");
  config.tied_embeddings = true;
  EXPECT_EQ(table_rules(config, 4, 4).size(), 1u);
  EXPECT_THROW(table_rules(config, 0, 4), UsageError);
  EXPECT_THROW(table_rules(config, 4, 8), UsageError);
}

TEST(MakePlan, RefusesATensorWithoutWeightsBeforeAnythingIsDone) {
  io::ModelFiles files;
  files.path = "model";
  io::Tensor empty;
  empty.name = "empty.bias";
  empty.shape = {0};
  files.table.tensors[empty.name] = empty;
  try {
    make_plan(files, quant::Spec::parse("int4"), {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("model: tensor 'empty.bias' is empty"));
  }
}

}  // namespace
}  // namespace squish::compress
