#include "squish/compress/model.h"

#include <gmock/gmock.h>

#include "squish/base/error.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::compress {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(CompressModel, QuantisesTheLinearLayersAloneEachByItsName) {
  ThreadPool one(1), three(3);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const auto spec = quant::Spec::parse("quip:bits=2");
  std::vector<std::string> names;
  std::size_t weights = 0;
  const PackedModel packed =
      compress_model(files, spec, 9, one, [&](const std::string& name, std::size_t n) {
        names.push_back(name);
        weights += n;
      });
  EXPECT_EQ(names, io::linear_names(files.config));
  EXPECT_EQ(packed.size(), names.size());
  EXPECT_EQ(weights, test::TinyModel::kLinear);

  const PackedModel again = compress_model(files, spec, 9, three, [](const auto&, std::size_t) {});
  for (const std::string& name : names) {
    const Matrix source = io::read_matrix(files.table.at(name), one);
    const quant::Packed alone =
        quant::quantize(source, spec, {.pool = one, .seed = 9, .key = name});
    ASSERT_EQ(packed.at(name)->sections.size(), alone.sections.size());
    for (std::size_t i = 0; i < alone.sections.size(); ++i) {
      EXPECT_EQ(packed.at(name)->sections[i].bytes, alone.sections[i].bytes) << name;
      EXPECT_EQ(again.at(name)->sections[i].bytes, alone.sections[i].bytes) << name;
    }
  }
}

TEST(CompressModel, ErrorsNameFileAndTensor) {
  ThreadPool pool(2);
  const test::TinyModel directory(1, NAN);
  const io::ModelFiles files = io::open_model(directory.path());
  EXPECT_THAT(
      [&] {
        compress_model(files, quant::Spec::parse("int4"), 0, pool, [](const auto&, std::size_t) {});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr(directory.path().string()),
                                 HasSubstr("model.layers.1.mlp.down_proj.weight"))));
}

}  // namespace
}  // namespace squish::compress
