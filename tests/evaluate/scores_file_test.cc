#include "squish/evaluate/scores_file.h"

#include <gmock/gmock.h>

#include <fstream>
#include <limits>

#include "squish/base/error.h"
#include "tests/apps/run_squish.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::evaluate {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class ScoresFileTest : public test::Program {
 protected:
  Passage passage() const {
    Passage passage;
    passage.first_scored = 3;
    for (model::TokenId w = 0; w < 3; ++w) {
      std::vector<model::TokenId>& window = passage.windows.emplace_back();
      for (model::TokenId i = 0; i < 20; ++i) window.push_back((7 * w + 11 * i) % 256);
    }
    return passage;
  }
  fs::path path() const { return directory() / "r.json.unfinished"; }
  ScoresFile file(const std::string& pass = "pass") const {
    return {path(), [pass] { return pass; }, 0};
  }
};

void expect_equal(const std::vector<Scores>& a, const std::vector<Scores>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].nll, b[i].nll);
    EXPECT_EQ(a[i].kld, b[i].kld);
    EXPECT_EQ(a[i].agrees, b[i].agrees);
    EXPECT_EQ(a[i].not_finite, b[i].not_finite);
    EXPECT_EQ(a[i].error, b[i].error);
  }
}

TEST_F(ScoresFileTest, APassGoesOnAfterEachOfItsWindows) {
  ThreadPool pool(2);
  std::vector<model::Transformer> models;
  for (const std::uint64_t seed : {1, 2}) {
    const test::TinyModel directory(seed);
    const io::ModelFiles files = io::open_model(directory.path());
    models.push_back(model::load_transformer(files, pool));
  }
  const model::Transformer* const candidates[] = {&models[1]};
  const Passage text = passage();

  std::vector<std::vector<Scores>> kept;
  const auto whole = score(
      models[0], candidates, text, pool, [] {}, {},
      [&](const auto& scores) {
        ScoresFile own = file();
        own.keep(scores);
        kept.push_back(own.read(2, text));
        expect_equal(kept.back(), {scores.begin(), scores.end()});
      });
  ASSERT_EQ(kept.size(), 3u);
  for (const auto& begun : kept) {
    expect_equal(score(
                     models[0], candidates, text, pool, [] {}, begun),
                 whole);
  }
}

TEST_F(ScoresFileTest, WhatIsNotThisPassIsRefused) {
  const Passage text = passage();
  const std::size_t count = 2 * text.scored_per_window();
  const auto scores = [&](std::size_t n, double nll) {
    return std::vector<Scores>{
        {.nll = std::vector<double>(n, nll), .kld = {}, .agrees = {}, .error = {}},
        {.nll = std::vector<double>(n, nll),
         .kld = std::vector<double>(n, 0.5),
         .agrees = std::vector<std::uint8_t>(n, 1),
         .error = {}}};
  };
  EXPECT_TRUE(file().read(2, text)[1].nll.empty());  // there is none
  file().keep(scores(count, 1.5));
  expect_equal(file().read(2, text), scores(count, 1.5));
  const auto expect_refused = [&](ScoresFile own, std::size_t models, const std::string& words) {
    EXPECT_THAT(
        [&] { own.read(models, text); },
        ThrowsMessage<Error>(::testing::AllOf(HasSubstr(path().string()), HasSubstr(words))));
  };
  expect_refused(file("another"), 2, "cannot be resumed");
  expect_refused(file(), 3, "expected 3 models");
  const std::string bytes = test::read_file(path());
  for (std::size_t size = 0; size < bytes.size(); size += 37) {
    std::ofstream(path(), std::ios::binary) << bytes.substr(0, size);
    EXPECT_THROW(file().read(2, text), Error) << size;
  }
  file().keep(scores(count + 1, 1.5));
  expect_refused(file(), 2, "expected whole windows of 16 positions, 3 at most");
  file().keep(scores(2 * count, 1.5));
  expect_refused(file(), 2, "expected whole windows of 16 positions, 3 at most");
  auto failed = scores(count, 1.5);
  failed[1].error = "out of memory";
  fs::remove(path());
  file().keep(failed);
  EXPECT_FALSE(fs::exists(path()));  // it may do better next time
  file().keep(scores(count, std::numeric_limits<double>::quiet_NaN()));
  expect_refused(file(), 2, "not finite");
}

}  // namespace
}  // namespace squish::evaluate
