#include "squish/compress/plan.h"

#include <gmock/gmock.h>

#include "squish/base/error.h"
#include "squish/model/transformer.h"
#include "tests/io/tiny_model.h"

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

TEST(WithTables, TheModelReadsItsEmbeddingAndHeadFromWhatIsStored) {
  ThreadPool pool(2);
  const io::testing::TemporaryDirectory directory;
  io::testing::TinyModel("llama").write_hf(directory);
  std::string unknown;  // there is no tokenizer
  const io::ModelFiles files = io::open_any_model(directory.path(), unknown);
  const auto rules = table_rules(files.config, 2, 3);
  const io::ModelFiles stored = with_tables(files, rules, 7, pool);
  const model::SharedWeights shared = model::load_shared(stored, pool);
  std::uint64_t saved = 0;
  for (const auto& [rule, weights] :
       {std::pair{rules[0], shared.embedding}, std::pair{rules[1], shared.head}}) {
    const io::Tensor& tensor = files.table.at(rule.glob);
    const quant::Packed packed = quant::quantize(io::read_matrix(tensor, pool), *rule.spec,
                                                 {.pool = pool, .seed = 7, .key = rule.glob});
    const Matrix expected = quant::dequantize(packed, pool);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(weights->data()[i], expected.data()[i]) << rule.glob;
    }
    EXPECT_EQ(8 * stored.table.at(rule.glob).stored_bytes(), packed.bits().total());
    saved += tensor.stored_bytes() - packed.bits().total() / 8;
  }
  EXPECT_EQ(stored.file_bytes, files.file_bytes - saved);
}

}  // namespace
}  // namespace squish::compress
