#include "squish/evaluate/weights.h"

#include <gmock/gmock.h>

#include "squish/base/error.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::evaluate {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(LoadWeights, TakesTheTensorThatIsNamed) {
  ThreadPool pool(1);
  const test::TinyModel directory;
  const std::string file = (directory.path() / "model.safetensors").string();
  const NamedWeights named = load_weights(file + ":model.layers.1.mlp.down_proj.weight", pool);
  EXPECT_EQ(named.name, "model.layers.1.mlp.down_proj.weight");
  EXPECT_EQ(named.weights.rows(), 32u);
  EXPECT_EQ(named.weights.cols(), 48u);
  EXPECT_NEAR(named.weights(0, 0), 0.01, 1e-4);

  EXPECT_THAT([&] { load_weights(file, pool); },
              ThrowsMessage<Error>(AllOf(HasSubstr("15 matrices"), HasSubstr("FILE:TENSOR"))));
  EXPECT_THAT([&] { load_weights(file + ":nope", pool); }, ThrowsMessage<Error>(HasSubstr("nope")));
  EXPECT_THAT([&] { load_weights("/nonexistent.gguf:x", pool); },
              ThrowsMessage<Error>(HasSubstr("/nonexistent.gguf")));
}

TEST(LoadWeights, NamesTheFirstWeightThatIsNotFinite) {
  ThreadPool pool(1);
  const test::TinyModel directory(1, std::nanf(""));
  const std::string file = (directory.path() / "model.safetensors").string();
  EXPECT_THAT([&] { load_weights(file + ":model.layers.1.mlp.down_proj.weight", pool); },
              ThrowsMessage<Error>(AllOf(HasSubstr(file), HasSubstr("layers.1.mlp.down_proj"),
                                         HasSubstr("weight (0, 0) is nan"))));
}

}  // namespace
}  // namespace squish::evaluate
