#include "squish/compress/prepared_inputs.h"

#include <gtest/gtest.h>

#include "squish/compress/calibration.h"
#include "squish/io/model_files.h"
#include "tests/compress/calibrate.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::compress {
namespace {

TEST(PreparedInputs, TensorsWithOneInputShareWhatIsMadeOfIt) {
  ThreadPool pool(2);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const std::vector<std::vector<model::TokenId>> windows = {{1, 2, 3, 4, 5, 6, 7, 8}};
  const Calibration calibration = calibrate(files, windows, pool, [] {});
  PreparedInputs inputs(&calibration, 1, pool);
  const auto spec = quant::Spec::parse("int4:g=8"), fewer = quant::Spec::parse("int3:g=16"),
             damped = quant::Spec::parse("int4:g=8,damp=0.5"), rotated = quant::Spec::parse("quip");
  const std::string layer = "model.layers.0.";
  const quant::Prepared* const q = inputs.prepared(layer + "self_attn.q_proj.weight", spec);
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(q->inputs, test::TinyModel::kHidden);
  EXPECT_EQ(inputs.prepared(layer + "self_attn.k_proj.weight", spec), q);
  EXPECT_EQ(inputs.prepared(layer + "self_attn.k_proj.weight", fewer), q);
  EXPECT_NE(inputs.prepared(layer + "self_attn.k_proj.weight", damped), q);
  EXPECT_NE(inputs.prepared(layer + "self_attn.k_proj.weight", rotated), q);
  EXPECT_EQ(inputs.prepared(layer + "self_attn.v_proj.weight", spec), q);
  const quant::InputMoments* const moments = inputs.moments(layer + "mlp.down_proj.weight");
  ASSERT_NE(moments, nullptr);
  EXPECT_EQ(moments->second.size(), test::TinyModel::kIntermediate);
  EXPECT_EQ(inputs.moments("model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(inputs.prepared("model.embed_tokens.weight", spec), nullptr);
  EXPECT_EQ(PreparedInputs(nullptr, 1, pool).prepared(layer + "mlp.up_proj.weight", spec), nullptr);
}

}  // namespace
}  // namespace squish::compress
