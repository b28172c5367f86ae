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
  EXPECT_GT(plain.memory_bytes, std::size_t{1} << 20);
  EXPECT_GT(calibrated.memory_bytes, plain.memory_bytes);
  EXPECT_EQ(calibrated.disk_bytes, plain.disk_bytes);
  EXPECT_LT(plain.disk_bytes, of("int8:g=16", false).disk_bytes);
  EXPECT_GT(plain.seconds, 0);
  EXPECT_GT(calibrated.seconds, 0);
  // 8 bits a weight with f32 scale and zero point in groups of 16, the rest in BF16.
  EXPECT_EQ(plain.disk_bytes,
            test::TinyModel::kLinear + 2 * (directory.parameters() - test::TinyModel::kLinear));
}

}  // namespace
}  // namespace squish::compress
