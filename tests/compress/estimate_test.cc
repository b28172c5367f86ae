#include <gtest/gtest.h>

#include "squish/compress/plan.h"
#include "tests/evaluate/tiny_model.h"

namespace squish::compress {
namespace {

TEST(Estimate, GrowsWithWhatTheJobNeeds) {
  ThreadPool pool(2);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const auto of = [&](const std::string& spec, bool calibrated) {
    return estimate(files, make_plan(files, quant::Spec::parse(spec), {}), calibrated, pool);
  };
  const Estimate plain = of("int4:g=16", false), calibrated = of("int4:g=16", true);
  EXPECT_EQ(calibrated.disk_bytes, plain.disk_bytes);
  EXPECT_LT(plain.disk_bytes, of("int8:g=16", false).disk_bytes);
  EXPECT_GT(plain.seconds, 0);
  EXPECT_GT(calibrated.seconds, 0);
  // 8 bits a weight with f32 scale and zero point in groups of 16, the rest in BF16.
  EXPECT_EQ(plain.disk_bytes,
            test::TinyModel::kLinear + 2 * (directory.parameters() - test::TinyModel::kLinear));
}

TEST(Estimate, MemoryIsThatOfTheTensorsAtOnceOrOfPreparingTheirInput) {
  Plan aqlm;  // weights 4, preparing 0.55, prepared 0.95
  const auto add = [&](const char* name, std::size_t rows, std::size_t cols) {
    aqlm.compressed.push_back({name, quant::Spec::parse("aqlm"), rows, cols, 2, false, true});
  };
  add("l.self_attn.q_proj.weight", 1000, 2000);
  add("l.self_attn.k_proj.weight", 500, 2000);
  add("l.mlp.down_proj.weight", 10, 4000);
  const std::size_t program = peak_memory({}, false, 1);
  EXPECT_EQ(peak_memory(aqlm, false, 1) - program, 4 * 4 * 1000 * 2000);
  EXPECT_EQ(peak_memory(aqlm, false, 2) - program, 4 * 4 * 1500 * 2000);
  EXPECT_EQ(peak_memory(aqlm, false, 9), peak_memory(aqlm, false, 2));
  EXPECT_EQ(peak_memory(aqlm, true, 1) - program, 8 * 95 * 40 * 4000 + 4 * 4 * 10 * 4000);
}

TEST(Estimate, CandidatesOfAnInputAreKeptTogetherAndCodedOneByOne) {
  const auto spec = [](const char* words) { return quant::Spec::parse(words); };
  Plan plan;
  plan.compressed.push_back({"l.mlp.down_proj.weight", spec("aqlm"), 10000, 4000, 2, false, true});
  const auto of = [&](const std::vector<quant::Spec>& candidates, std::size_t at_once) {
    return peak_memory(plan, true, at_once, candidates);
  };
  const std::vector<quant::Spec> one = {spec("aqlm")}, alike = {spec("quip"), spec("quip:bits=3")},
                                 both = {spec("aqlm"), spec("quip")};
  EXPECT_EQ(of(one, 1), peak_memory(plan, true, 1));
  EXPECT_EQ(of(alike, 1), of({alike[0]}, 1));  // prepare an input alike
  EXPECT_GT(of(alike, 2), of(alike, 1));
  EXPECT_GT(of(both, 1), std::max(of({both[0]}, 1), of({both[1]}, 1)));
  plan.compressed[0].by_rule = true;
  EXPECT_EQ(of(both, 2), peak_memory(plan, true, 2));
}

}  // namespace
}  // namespace squish::compress
