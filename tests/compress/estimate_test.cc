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

}  // namespace
}  // namespace squish::compress
