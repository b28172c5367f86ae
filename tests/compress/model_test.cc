#include "squish/compress/model.h"

#include <gmock/gmock.h>

#include "squish/base/error.h"
#include "squish/compress/calibration.h"
#include "squish/linalg/symmetric.h"
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
      compress_model(files, spec, 9, nullptr, one, [&](const std::string& name, std::size_t n) {
        names.push_back(name);
        weights += n;
      });
  EXPECT_EQ(names, io::linear_names(files.config));
  EXPECT_EQ(packed.size(), names.size());
  EXPECT_EQ(weights, test::TinyModel::kLinear);

  const PackedModel again =
      compress_model(files, spec, 9, nullptr, three, [](const auto&, std::size_t) {});
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

TEST(CompressModel, GivesEachLayerTheMomentsOfItsInput) {
  ThreadPool one(1), three(3);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  std::vector<std::vector<model::TokenId>> windows(2, std::vector<model::TokenId>(90));
  for (std::size_t i = 0; i < 180; ++i) {
    windows[i / 90][i % 90] = static_cast<model::TokenId>(i * i % files.config.vocab);
  }
  const Calibration calibration = calibrate(files, windows, one, [] {});
  const auto spec = quant::Spec::parse("int3:g=16");
  const auto none = [](const auto&, std::size_t) {};
  const PackedModel plain = compress_model(files, spec, 9, nullptr, one, none);
  const PackedModel packed = compress_model(files, spec, 9, &calibration, one, none);
  const PackedModel again = compress_model(files, spec, 9, &calibration, three, none);
  std::size_t better = 0;
  for (const std::string& name : io::linear_names(files.config)) {
    const Matrix source = io::read_matrix(files.table.at(name), one);
    const quant::InputMoments moments = calibration.moments(name);
    const auto prepared = quant::prepare(moments, spec, one, 9, input_name(name));
    const quant::Packed alone = quant::quantize(
        source, spec, {.pool = one, .seed = 9, .key = name, .prepared = prepared.get()});
    for (std::size_t i = 0; i < alone.sections.size(); ++i) {
      EXPECT_EQ(packed.at(name)->sections[i].bytes, alone.sections[i].bytes) << name;
      EXPECT_EQ(again.at(name)->sections[i].bytes, alone.sections[i].bytes) << name;
    }
    const auto loss = [&](const quant::Packed& coded) {
      Matrix error = quant::dequantize(coded, one);
      for (std::size_t i = 0; i < error.size(); ++i) error.data()[i] -= source.data()[i];
      return linalg::trace_of_form(error, moments.second, one);
    };
    better += loss(*packed.at(name)) < loss(*plain.at(name)) ? 1 : 0;
  }
  EXPECT_EQ(better, packed.size());
}

TEST(CompressModel, RefusesACalibrationThatLacksAnInput) {
  ThreadPool pool(2);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const Calibration calibration;
  EXPECT_THAT(
      [&] {
        compress_model(files, quant::Spec::parse("int4"), 0, &calibration, pool,
                       [](const auto&, std::size_t) {});
      },
      ThrowsMessage<Error>(HasSubstr("nothing is known of its input")));
}

TEST(CompressModel, ErrorsNameFileAndTensor) {
  ThreadPool pool(2);
  const test::TinyModel directory(1, NAN);
  const io::ModelFiles files = io::open_model(directory.path());
  EXPECT_THAT(
      [&] {
        compress_model(files, quant::Spec::parse("int4"), 0, nullptr, pool,
                       [](const auto&, std::size_t) {});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr(directory.path().string()),
                                 HasSubstr("model.layers.1.mlp.down_proj.weight"))));
}

}  // namespace
}  // namespace squish::compress
