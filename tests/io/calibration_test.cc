#include "squish/io/calibration.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "squish/base/error.h"
#include "squish/base/random.h"
#include "squish/linalg/outer_product.h"
#include "tests/io/writers.h"

namespace squish::io {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Two inputs of random sums.
struct Sums {
  std::vector<double> sum, products;
};

class CalibrationFile : public ::testing::Test {
 protected:
  fs::path path(const std::string& name) const { return directory_.path() / name; }

  static Calibration make(const std::string& tokens_digest, std::uint64_t seed) {
    const auto owner = std::make_shared<std::vector<Sums>>();
    Calibration made;
    made.source = {"feed",
                   {{"a \"text\"", "beef", tokens_digest, "gptq-64", 3, 3, 192, "squish 0"}}};
    made.text_lines = {seed, seed + 7};
    const CounterRng random(seed, "sums");
    std::uint64_t at = 0;
    for (const std::size_t width : {3, 5}) {
      Sums sums{std::vector<double>(width), std::vector<double>(linalg::triangle_size(width))};
      for (double& x : sums.sum) x = random.normal(at++);
      for (double& x : sums.products) x = random.normal(at++);
      owner->push_back(std::move(sums));
    }
    made.inputs["l.mlp.gate_up"] = {190,   2,  3, (*owner)[0].sum, (*owner)[0].products,
                                    owner, {}, {}};
    made.inputs["l.mlp.down_proj"] = {192,   0,  5, (*owner)[1].sum, (*owner)[1].products,
                                      owner, {}, {}};
    return made;
  }

  static std::string read(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream(file, std::ios::binary).rdbuf();
    return text.str();
  }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(path(name), std::ios::binary) << content;
  }
  /// The bytes of a file with the one occurrence of `from` in its header replaced by `to`, which is
  /// as long.
  static std::string with(std::string bytes, const std::string& from, const std::string& to) {
    const std::size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    EXPECT_EQ(from.size(), to.size());
    return bytes.replace(at, from.size(), to);
  }

  ThreadPool pool_{2};

 private:
  testing::TemporaryDirectory directory_;
};

TEST_F(CalibrationFile, HoldsWhatWasWritten) {
  const Calibration made = make("1", 1);
  write_calibration(path("c"), made, pool_);
  const Calibration got = read_calibration(path("c"));
  EXPECT_EQ(got.source, made.source);
  EXPECT_EQ(got.text_lines, made.text_lines);
  ASSERT_EQ(got.inputs.size(), 2u);
  for (const auto& [name, sums] : got.inputs) {
    const InputSums& expected = made.inputs.at(name);
    EXPECT_EQ(sums.tokens, expected.tokens);
    EXPECT_EQ(sums.dropped, expected.dropped);
    EXPECT_TRUE(std::ranges::equal(sums.sum, expected.sum));
    EXPECT_TRUE(std::ranges::equal(sums.products, expected.products));
  }
  const quant::InputMoments moments = got.moments("l.mlp.up_proj.weight");
  const InputSums& sums = made.inputs.at("l.mlp.gate_up");
  ASSERT_EQ(moments.second.size(), 3u);
  for (std::size_t i = 0, at = 0; i < 3; ++i) {
    EXPECT_DOUBLE_EQ(moments.mean[i], sums.sum[i] / 190);
    for (std::size_t j = i; j < 3; ++j, ++at) {
      EXPECT_DOUBLE_EQ(moments.second(i, j), sums.products[at] / 190);
      EXPECT_EQ(moments.second(j, i), moments.second(i, j));
    }
  }
  ThreadPool one(1);
  write_calibration(path("d"), got, one);
  EXPECT_EQ(read(path("c")), read(path("d")));
}

TEST_F(CalibrationFile, RefusesAnotherModelNamingBothDigests) {
  Calibration made = make("1", 1);
  EXPECT_NO_THROW(check_calibration(made, "feed"));
  EXPECT_THAT([&] { check_calibration(made, "dead"); },
              ThrowsMessage<Error>(AllOf(HasSubstr("feed"), HasSubstr("dead"))));
  made.source.runs[0].planned = 4;
  EXPECT_THAT([&] { check_calibration(made, "feed"); },
              ThrowsMessage<Error>(HasSubstr("unfinished")));
}

TEST_F(CalibrationFile, RefusesMomentsThatItDoesNotHave) {
  Calibration made = make("1", 1);
  made.inputs["l.self_attn.o_proj"].dropped = 7;
  EXPECT_THAT([&] { made.moments("b.weight"); },
              ThrowsMessage<Error>(HasSubstr("the input of b.weight")));
  EXPECT_THAT([&] { made.moments("l.self_attn.o_proj.weight"); },
              ThrowsMessage<Error>(HasSubstr("no activation was finite")));
}

TEST_F(CalibrationFile, MergesTheSameInAnyOrder) {
  const Calibration a = make("1", 1), b = make("2", 2), c = make("3", 3);
  for (const auto& [name, order] : {std::pair{"x", std::vector{a, b, c}}, {"y", {c, a, b}}}) {
    write_calibration(path(name), merge_calibrations(order, pool_), pool_);
  }
  EXPECT_EQ(read(path("x")), read(path("y")));
  const Calibration merged = read_calibration(path("x"));
  EXPECT_EQ(merged.source.runs.size(), 3u);
  EXPECT_EQ(merged.source.tokens(), 576u);
  EXPECT_EQ(merged.text_lines, (std::vector<std::uint64_t>{1, 2, 3, 8, 9, 10}));
  for (const auto& [name, sums] : merged.inputs) {
    EXPECT_EQ(sums.tokens, 3 * a.inputs.at(name).tokens);
    for (std::size_t i = 0; i < sums.products.size(); ++i) {
      EXPECT_EQ(sums.products[i], (a.inputs.at(name).products[i] + b.inputs.at(name).products[i]) +
                                      c.inputs.at(name).products[i]);
    }
  }
}

TEST_F(CalibrationFile, RefusesToMergeOtherModelsAndTheSameTextTwice) {
  Calibration other = make("2", 2);
  other.source.model_sha256 = "dead";
  EXPECT_THAT(
      [&] {
        merge_calibrations({make("1", 1), other}, pool_);
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("feed"), HasSubstr("dead"))));
  EXPECT_THAT(
      [&] {
        merge_calibrations({make("1", 1), make("1", 2)}, pool_);
      },
      ThrowsMessage<Error>(HasSubstr("same text")));
}

TEST_F(CalibrationFile, RefusesEveryTruncation) {
  write_calibration(path("c"), make("1", 1), pool_);
  const std::string bytes = read(path("c"));
  for (std::size_t size = 0; size < bytes.size(); size += size < 64 ? 1 : 61) {
    write("t", bytes.substr(0, size));
    EXPECT_THROW(read_calibration(path("t")), Error) << size;
  }
}

TEST_F(CalibrationFile, EveryFlippedByteIsRefusedOrHarmless) {
  write_calibration(path("c"), make("1", 1), pool_);
  const std::string bytes = read(path("c"));
  std::size_t refused = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 0x11);
    write("t", bad);
    try {
      check_values(read_calibration(path("t")));
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, bytes.size() / 2);
}

TEST_F(CalibrationFile, RefusesWhatDoesNotFitTogether) {
  write_calibration(path("c"), make("1", 1), pool_);
  const std::string bytes = read(path("c"));
  const auto expect_refused = [&](const std::string& from, const std::string& to,
                                  const std::string& words) {
    write("t", with(bytes, from, to));
    EXPECT_THAT([&] { read_calibration(path("t")); },
                ThrowsMessage<Error>(AllOf(HasSubstr(path("t").string()), HasSubstr(words))))
        << to;
  };
  expect_refused("squish.calibration", "squish.calibratiom", "not a calibration");
  expect_refused("format_version\":\"0", "format_version\":\"1", "format version '1'");
  expect_refused("\\\"width\\\":5", "\\\"width\\\":6", "shape [6]");
  expect_refused("\\\"width\\\":5", "\\\"width\\\":0", "'width'");
  expect_refused("\\\"windows\\\":3", "\\\"windows\\\":9", "9 windows of 3");
  expect_refused("\\\"tokens\\\":192", "\\\"tokens\\\":-92", "'tokens'");
  expect_refused("\\\"l.mlp.down_proj\\\"", "\\\"l.mlp.dawn_proj\\\"", "l.mlp.dawn_proj");
  expect_refused("l.mlp.down_proj.sum\":{\"data", "l.mlp.down_proj.sam\":{\"data",
                 "l.mlp.down_proj.sum");
}

}  // namespace
}  // namespace squish::io
