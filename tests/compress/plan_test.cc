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

TEST(RunsOfOneInput, AreLargestFirstWhereTheyAreSharedOut) {
  const quant::Spec spec = quant::Spec::parse("int4");
  std::vector<PlannedTensor> tensors;
  for (const auto& [name, rows, cols] : {std::tuple{"self_attn.q_proj", 64, 64},
                                         {"self_attn.k_proj", 16, 64},
                                         {"self_attn.v_proj", 16, 64},
                                         {"self_attn.o_proj", 64, 64},
                                         {"mlp.gate_proj", 200, 64},
                                         {"mlp.up_proj", 200, 64},
                                         {"mlp.down_proj", 64, 200}}) {
    tensors.push_back({fmt::format("model.layers.0.{}.weight", name), spec,
                       static_cast<std::size_t>(rows), static_cast<std::size_t>(cols), 4});
    tensors.back().linear = true;
  }
  const auto begins = [&](bool largest_first) {
    std::vector<std::size_t> found;
    for (const TensorRun& run : runs_of_one_input(tensors, largest_first)) {
      found.push_back(run.begin);
      EXPECT_EQ(run.end - run.begin, run.begin == 0 ? 3u : run.begin == 4 ? 2u : 1u);
    }
    return found;
  };
  EXPECT_EQ(begins(false), (std::vector<std::size_t>{0, 3, 4, 6}));
  EXPECT_EQ(begins(true), (std::vector<std::size_t>{6, 4, 0, 3}));
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
