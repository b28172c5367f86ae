#include "squish/compress/calibration.h"

#include <gmock/gmock.h>

#include <cmath>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/random.h"
#include "squish/compress/calibration_job.h"
#include "squish/compress/hidden_states.h"
#include "squish/model/transformer.h"
#include "tests/compress/calibrate.h"
#include "tests/evaluate/tiny_model.h"
#include "tests/io/writers.h"
#include "tests/model/recording_linear.h"

namespace squish::compress {
namespace {

using Windows = std::vector<std::vector<model::TokenId>>;

Windows random_windows(std::size_t count, std::size_t length, std::size_t vocab) {
  const CounterRng random(3, "windows");
  Windows windows(count, std::vector<model::TokenId>(length));
  std::uint64_t at = 0;
  for (auto& window : windows) {
    for (auto& token : window) token = static_cast<model::TokenId>(random.bits(at++) % vocab);
  }
  return windows;
}

void expect_equals_recording(const io::ModelFiles& files, const Windows& windows) {
  ThreadPool pool(2);
  std::size_t steps = 0;
  const Calibration calibration = calibrate(files, windows, pool, [&] { ++steps; });
  EXPECT_EQ(steps, windows.size() * files.config.layers);
  EXPECT_EQ(calibration.inputs.size(), 4 * files.config.layers);
  for (const auto& [name, rows] : test::record(files, files, windows, pool)) {
    const quant::InputMoments moments = calibration.moments(name);
    const std::size_t n = rows.front().size();
    ASSERT_EQ(moments.second.size(), n) << name;
    ASSERT_EQ(moments.mean.size(), n) << name;
    EXPECT_EQ(calibration.inputs.at(input_name(name)).tokens, rows.size());
    EXPECT_EQ(calibration.inputs.at(input_name(name)).dropped, 0u);
    for (std::size_t i = 0; i < n; ++i) {
      double mean = 0;
      for (const auto& row : rows) mean += row[i];
      mean /= static_cast<double>(rows.size());
      ASSERT_NEAR(moments.mean[i], mean, 1e-9 * (1 + std::abs(mean))) << name;
      for (std::size_t j = 0; j < n; ++j) {
        double second = 0, scale = 1e-3;
        for (const auto& row : rows) {
          second += double{row[i]} * row[j];
          scale += std::abs(double{row[i]} * row[j]);
        }
        const auto count = static_cast<double>(rows.size());
        ASSERT_NEAR(moments.second(i, j), second / count, 1e-6 * scale / count)
            << name << " " << i << " " << j;
      }
    }
  }
}

TEST(Calibration, EqualsASlowRecordingOfEveryLinearLayersInput) {
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  expect_equals_recording(files, random_windows(3, 70, files.config.vocab));
}

void expect_same(const Calibration& found, const Calibration& expected) {
  ASSERT_EQ(found.inputs.size(), expected.inputs.size());
  for (const auto& [name, sums] : found.inputs) {
    const InputSums& other = expected.inputs.at(name);
    EXPECT_EQ(sums.tokens, other.tokens);
    EXPECT_EQ(sums.dropped, other.dropped);
    EXPECT_TRUE(std::ranges::equal(sums.sum, other.sum)) << name;
    EXPECT_TRUE(std::ranges::equal(sums.products, other.products)) << name;
  }
}

TEST(Calibration, IsTheSameForAnyNumberOfThreadsAndAsAJobStoppedAnywhere) {
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const Windows windows = random_windows(40, 9, files.config.vocab);  // more than parts
  ThreadPool one(1), three(3);
  const Calibration whole = calibrate(files, windows, one, [] {});
  expect_same(calibrate(files, windows, three, [] {}), whole);

  const io::testing::TemporaryDirectory folder;
  CalibrationJob job;
  job.out = folder.path() / "calib";
  job.windows = windows;
  job.save_every = 0;
  struct Stop {};
  const std::size_t steps = windows.size() * files.config.layers;
  for (std::size_t stop = 5; stop < steps; stop += 12) {
    std::size_t seen = 0;  // of this run, those found again among them
    EXPECT_THROW(run_calibration(files, job, stop % 2 == 0 ? one : three,
                                 [&](std::size_t n) {
                                   if ((seen += n) >= stop) throw Stop();
                                 }),
                 Stop);
    EXPECT_FALSE(std::filesystem::exists(job.out));
    job.resume = true;
  }
  std::size_t seen = 0;
  expect_same(run_calibration(files, job, one, [&](std::size_t n) { seen += n; }), whole);
  EXPECT_EQ(seen, steps);
  const std::filesystem::path unfinished = unfinished_path(job.out);
  EXPECT_FALSE(std::filesystem::exists(unfinished));

  // Killed while it cleared up: what is left does not matter, and what is not ours stays.
  const std::string result = read_text(job.out, 1 << 24);
  write_atomically(unfinished / "block-1", "a part of it");
  write_atomically(unfinished / "part-1-of-a-book", "mine");
  run_calibration(files, job, one, [](std::size_t) {});
  EXPECT_TRUE(read_text(job.out, 1 << 24) == result);
  EXPECT_FALSE(std::filesystem::exists(unfinished / "block-1"));
  EXPECT_TRUE(std::filesystem::exists(unfinished / "part-1-of-a-book"));
}

TEST(Calibration, DoesNotSignWhatWasDamagedWhileItWasUnfinished) {
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const io::testing::TemporaryDirectory folder;
  CalibrationJob job;
  job.out = folder.path() / "calib";
  job.windows = random_windows(3, 20, files.config.vocab);
  struct Stop {};
  ThreadPool pool(1);
  std::size_t seen = 0;
  const auto stop = [&](std::size_t n) {
    if ((seen += n) > job.windows.size()) throw Stop();
  };
  EXPECT_THROW(run_calibration(files, job, pool, stop), Stop);
  const std::filesystem::path block = unfinished_path(job.out) / "block-0";
  std::string bytes = read_text(block, 1 << 24);
  bytes[bytes.size() - 9] ^= 1;
  write_atomically(block, bytes);
  job.resume = true;
  EXPECT_THAT([&] { run_calibration(files, job, pool, [](std::size_t) {}); },
              ::testing::ThrowsMessage<Error>(::testing::HasSubstr("not those that were written")));
  EXPECT_FALSE(std::filesystem::exists(job.out));
}

TEST(Calibration, PartsAreAsEqualAsCanBe) {
  EXPECT_TRUE(parts_of(0).empty());
  for (const std::size_t windows : {1, 31, 32, 33, 128, 1000}) {
    const std::vector<WindowRange> parts = parts_of(windows);
    EXPECT_EQ(parts.size(), std::min<std::size_t>(windows, 32));
    std::size_t next = 0;
    for (const WindowRange& part : parts) {
      EXPECT_EQ(part.begin, next);
      EXPECT_GE(part.end - part.begin, windows / parts.size());
      EXPECT_LE(part.end - part.begin, windows / parts.size() + 1);
      next = part.end;
    }
    EXPECT_EQ(next, windows);
  }
}

TEST(Calibration, RefusesAJobThatNeedsMoreMemoryThanItMayTake) {
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  CalibrationJob job;
  job.out = "nowhere";
  job.windows = random_windows(3, 9, files.config.vocab);
  job.max_memory = calibration_memory(files, job.windows) - 1;
  ThreadPool pool(1);
  EXPECT_THAT([&] { run_calibration(files, job, pool, [](std::size_t) {}); },
              ::testing::ThrowsMessage<Error>(::testing::HasSubstr("calibrating needs about")));
  EXPECT_FALSE(std::filesystem::exists(unfinished_path(job.out)));
}

TEST(HiddenStates, AreReadAsTheyWereWrittenOrNotAtAll) {
  const io::testing::TemporaryDirectory folder;
  const Windows windows = {{1, 2, 3}, {4}};
  const HiddenStates states(folder.path(), "hidden", windows, 2);
  Matrix window(3, 2);
  for (std::size_t i = 0; i < 6; ++i) window.data()[i] = static_cast<float>(i) / 3;
  EXPECT_FALSE(states.holds(1, 0));
  states.write(1, 0, {&window, 1});
  EXPECT_TRUE(states.holds(1, 0));
  const std::vector<Matrix> found = states.read(1, 0);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(std::equal(window.data(), window.data() + 6, found[0].data()));
  EXPECT_THROW(states.read(1, 1), Error);

  const auto path = folder.path() / "hidden-1-0";
  const std::string good = read_text(path, 10000);
  for (std::size_t at : {std::size_t{3}, good.size() - 1, good.size() / 2}) {
    std::string bad = good;
    bad[at] ^= 1;
    write_atomically(path, bad);
    EXPECT_THROW(states.read(1, 0), Error) << at;
  }
  write_atomically(path, good.substr(0, good.size() - 4));
  EXPECT_THROW(states.read(1, 0), Error);
  states.remove(1);
  EXPECT_FALSE(states.holds(1, 0));
}

TEST(Calibration, DropsActivationsThatAreNotFiniteAndCountsThem) {
  // Element 0 of the down projection's input comes to lie about the largest that is taken.
  const test::TinyModel directory(1, 1e16f, "model.layers.0.mlp.up_proj.weight");
  const io::ModelFiles files = io::open_model(directory.path());
  const Windows windows = random_windows(1, 40, files.config.vocab);
  ThreadPool pool(2);
  const Calibration calibration = calibrate(files, windows, pool, [] {});
  const auto recording = test::record(files, files, windows, pool);
  std::uint64_t dropped = 0;
  for (const auto& [name, rows] : recording) {
    const InputSums& sums = calibration.inputs.at(input_name(name));
    const auto good = std::count_if(rows.begin(), rows.end(), [](const auto& row) {
      return std::ranges::all_of(row, [](float x) { return std::abs(x) <= 1e15f; });
    });
    EXPECT_EQ(sums.tokens, static_cast<std::uint64_t>(good)) << name;
    EXPECT_EQ(sums.dropped, rows.size() - static_cast<std::uint64_t>(good)) << name;
    dropped += sums.dropped;
    for (const double product : sums.products) ASSERT_TRUE(std::isfinite(product)) << name;
  }
  EXPECT_GT(dropped, 5u);
  EXPECT_LT(dropped, 35u);
}

TEST(Calibration, NamesTheInputsThatLayersShare) {
  EXPECT_EQ(input_name("model.layers.3.self_attn.q_proj.weight"), "model.layers.3.self_attn.qkv");
  EXPECT_EQ(input_name("model.layers.3.self_attn.k_proj.weight"), "model.layers.3.self_attn.qkv");
  EXPECT_EQ(input_name("model.layers.3.self_attn.v_proj.weight"), "model.layers.3.self_attn.qkv");
  EXPECT_EQ(input_name("model.layers.3.self_attn.o_proj.weight"),
            "model.layers.3.self_attn.o_proj");
  EXPECT_EQ(input_name("model.layers.3.mlp.gate_proj.weight"), "model.layers.3.mlp.gate_up");
  EXPECT_EQ(input_name("model.layers.3.mlp.up_proj.weight"), "model.layers.3.mlp.gate_up");
  EXPECT_EQ(input_name("model.layers.3.mlp.down_proj.weight"), "model.layers.3.mlp.down_proj");
}

}  // namespace
}  // namespace squish::compress
