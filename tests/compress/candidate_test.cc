#include "squish/compress/candidate.h"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>

#include "squish/base/error.h"
#include "squish/compress/calibration.h"
#include "squish/compress/log.h"
#include "squish/io/checkpoint.h"
#include "squish/io/digest.h"
#include "squish/linalg/symmetric.h"
#include "tests/compress/calibrate.h"
#include "tests/evaluate/tiny_model.h"
#include "tests/io/writers.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class CandidateTest : public ::testing::Test {
 protected:
  Candidate make(const std::string& spec, const Calibration* calibration = nullptr) {
    const Plan plan = make_plan(files_, quant::Spec::parse(spec), {});
    JobOptions options;
    options.seed = 9;
    options.quiet = true;
    options.calibration = calibration;
    return cached_candidate(files_, plan, options, cache_.path(), pool_);
  }
  Calibration calibration() {
    std::vector<std::vector<model::TokenId>> windows(2, std::vector<model::TokenId>(90));
    for (std::size_t i = 0; i < 180; ++i) {
      windows[i / 90][i % 90] = static_cast<model::TokenId>(i * i % files_.config.vocab);
    }
    Calibration made = calibrate(files_, windows, pool_, [] {});
    made.source.model_sha256 = io::model_digest(files_, pool_);
    made.digest = "a test's";
    return made;
  }

  ThreadPool pool_{2};
  const test::TinyModel directory_;
  const io::ModelFiles files_ = io::open_model(directory_.path());
  const io::testing::TemporaryDirectory cache_;
};

TEST_F(CandidateTest, QuantisesTheLinearLayersAloneEachByItsName) {
  const Candidate candidate = make("quip:bits=2");
  ThreadPool three(3);
  std::size_t quantised = 0;
  for (const auto& [name, tensor] : candidate.files.table.tensors) {
    quantised += tensor.packed != nullptr ? 1 : 0;
  }
  EXPECT_EQ(quantised, io::linear_names(files_.config).size());
  for (const std::string& name : io::linear_names(files_.config)) {
    const quant::Packed alone =
        quant::quantize(io::read_matrix(files_.table.at(name), three),
                        quant::Spec::parse("quip:bits=2"), {.pool = three, .seed = 9, .key = name});
    const quant::Packed packed = io::read_packed(candidate.files.table.at(name));
    ASSERT_EQ(packed.sections.size(), alone.sections.size());
    for (std::size_t i = 0; i < alone.sections.size(); ++i) {
      EXPECT_EQ(packed.sections[i].bytes, alone.sections[i].bytes) << name;
    }
  }
}

TEST_F(CandidateTest, GivesEachLayerTheMomentsOfItsInput) {
  const Calibration moments = calibration();
  const Candidate plain = make("int3:g=16"), calibrated = make("int3:g=16", &moments);
  for (const std::string& name : io::linear_names(files_.config)) {
    const Matrix source = io::read_matrix(files_.table.at(name), pool_);
    const auto loss = [&](const Candidate& candidate) {
      Matrix error = io::read_matrix(candidate.files.table.at(name), pool_);
      for (std::size_t i = 0; i < error.size(); ++i) error.data()[i] -= source.data()[i];
      return linalg::trace_of_form(error, moments.moments(name).second, pool_);
    };
    EXPECT_LT(loss(calibrated), loss(plain)) << name;
  }
}

TEST_F(CandidateTest, WhatWasMadeOnceIsOpenedAgainWithTheCostItHad) {
  const Candidate first = make("int4:g=16"), other = make("int4:g=8"), again = make("int4:g=16");
  EXPECT_EQ(again.files.path, first.files.path);
  EXPECT_NE(other.files.path, first.files.path);
  EXPECT_GT(first.cost->seconds, 0);
  EXPECT_GT(first.cost->peak_rss_bytes, std::size_t{1} << 20);
  EXPECT_EQ(again.cost->seconds, first.cost->seconds);
}

TEST_F(CandidateTest, TheCostIsNotThatOfWhatRanBefore) {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  { const std::vector<char> touched(kBytes, 1); }
  EXPECT_LT(make("int4:g=16").cost->peak_rss_bytes, kBytes);
}

TEST_F(CandidateTest, ADamagedLogCostsTheCostAlone) {
  const fs::path log = make("int4:g=16").files.path / kLogFile;
  fs::resize_file(log, fs::file_size(log) - 20);
  EXPECT_FALSE(make("int4:g=16").cost);
}

TEST_F(CandidateTest, ADamagedEntryIsMadeAgain) {
  const fs::path entry = make("int4:g=16").files.path;
  const fs::path file = entry / io::checkpoint_file_name(3, 15);
  const auto text = [](const fs::path& path) {
    std::ostringstream all;
    all << std::ifstream(path, std::ios::binary).rdbuf();
    return all.str();
  };
  const std::string whole = text(file), manifest = text(entry / "squish.json");
  std::string flipped = whole;
  flipped[flipped.size() - 200] ^= 1;
  for (const auto& [damaged, bytes] :
       {std::pair{file, flipped}, {file, whole.substr(0, 30)}, {entry / "squish.json", "{"}}) {
    std::ofstream(damaged, std::ios::binary | std::ios::trunc) << bytes;
    EXPECT_EQ(make("int4:g=16").files.path, entry);
    EXPECT_EQ(text(file), whole);
    EXPECT_EQ(text(entry / "squish.json"), manifest);
  }
  fs::remove(entry / "squish.json");
  make("int4:g=16");
  EXPECT_EQ(text(entry / "squish.json"), manifest);
}

TEST_F(CandidateTest, OnlyWhatNobodyUsesGoes) {
  const fs::path used = make("int4:g=16").files.path;
  const fs::path old = cache_.path() / "0123456789abcdef", foreign = cache_.path() / "notes";
  for (const fs::path& path : {old, foreign}) {
    fs::create_directories(path / "inside");
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(200));
  }
  evict_candidates(cache_.path());
  EXPECT_TRUE(fs::exists(used));
  EXPECT_TRUE(fs::exists(foreign));
  EXPECT_FALSE(fs::exists(old));
  evict_candidates(cache_.path() / "missing");
}

TEST_F(CandidateTest, RefusesACalibrationThatLacksAnInput) {
  Calibration lacking = calibration();
  lacking.inputs.erase("model.layers.1.mlp.gate_up");
  EXPECT_THAT([&] { make("int4", &lacking); },
              ThrowsMessage<Error>(HasSubstr("nothing is known of the input of "
                                             "model.layers.1.mlp.gate_proj.weight")));
}

TEST(Candidate, ErrorsNameFileAndTensor) {
  ThreadPool pool(2);
  const test::TinyModel directory(1, NAN);
  const io::testing::TemporaryDirectory cache;
  const io::ModelFiles files = io::open_model(directory.path());
  JobOptions options;
  options.quiet = true;
  EXPECT_THAT(
      [&] {
        cached_candidate(files, make_plan(files, quant::Spec::parse("int4"), {}), options,
                         cache.path(), pool);
      },
      ThrowsMessage<Error>(AllOf(HasSubstr(directory.path().string()),
                                 HasSubstr("model.layers.1.mlp.down_proj.weight"))));
}

}  // namespace
}  // namespace squish::compress
