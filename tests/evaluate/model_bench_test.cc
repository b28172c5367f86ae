#include "squish/evaluate/model_bench.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/evaluate/tiny_model.h"
#include "tests/io/writers.h"

namespace squish::evaluate {
namespace {

using ::testing::HasSubstr;

Passage passage() {
  Passage result;
  for (std::size_t w = 0; w < 2; ++w) {
    std::vector<model::TokenId> window;
    for (std::size_t i = 0; i < 48; ++i) {
      window.push_back(static_cast<model::TokenId>((i * i + 31 * w) % 256));
    }
    result.windows.push_back(window);
  }
  return result;
}

ModelBenchOptions options(const std::vector<std::string>& specs,
                          const io::testing::TemporaryDirectory& cache) {
  ModelBenchOptions result{.specs = {},
                           .cache = cache.path(),
                           .seed = 3,
                           .tps_tokens = 8,
                           .read_bandwidth_gbs = 10,
                           .quiet = true};
  for (const std::string& spec : specs) result.specs.push_back(quant::Spec::parse(spec));
  return result;
}

TEST(Storage, ABf16ModelReads16BitsAndAPackedOneWhatItStores) {
  ThreadPool pool(2);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const Storage source = storage_of(files);
  EXPECT_EQ(source.bpw_linear, 16);
  EXPECT_EQ(source.bpw_model, 16);
  EXPECT_EQ(source.file_bytes, files.file_bytes);

  const io::testing::TemporaryDirectory cache;
  compress::JobOptions job;
  job.quiet = true;
  const io::ModelFiles packed =
      compress::cached_candidate(files,
                                 compress::make_plan(files, quant::Spec::parse("int4:g=16"), {}),
                                 job, cache.path(), pool)
          .files;
  const Storage storage = storage_of(packed);
  EXPECT_EQ(storage.bpw_linear, 8);  // 4 + 2 * 32 / 16
  const double linear = test::TinyModel::kLinear, all = static_cast<double>(directory.parameters());
  EXPECT_DOUBLE_EQ(storage.bpw_model, (8 * linear + 16 * (all - linear)) / all);
  EXPECT_GE(8.0 * static_cast<double>(storage.file_bytes), storage.bpw_model * all);
}

TEST(BenchModel, HasARowForTheUncompressedModelAndEachMethodWithEveryField) {
  ThreadPool pool(2);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const Passage text = passage();
  const io::testing::TemporaryDirectory cache;
  const ModelBench bench =
      bench_model(files, &text, options({"int8:g=16", "int2:g=16"}, cache), pool);
  ASSERT_EQ(bench.rows.size(), 3u);
  EXPECT_EQ(bench.rows[0].method, "none");
  EXPECT_FALSE(bench.rows[0].result->cost);
  EXPECT_FALSE(bench.rows[0].result->quality->divergence);
  EXPECT_LT(bench.noise->kld_mean, 1e-6);
  const double bytes[] = {2, 1.5, 0.75};  // of a weight: BF16, codes and grids
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& row = bench.rows[i];
    ASSERT_TRUE(row.ok()) << row.status;
    EXPECT_EQ(row.seed, 3u);
    const Throughput& speed = *row.result->throughput;
    EXPECT_GT(speed.tps.median, 0);
    EXPECT_GE(speed.tps.runs, 1);
    EXPECT_GT(speed.prefill_tps.median, 0);
    EXPECT_TRUE(speed.fused);
    // All layers, the head, and some cache: 2 layers, keys and values of 16 each.
    const double weights = bytes[i] * test::TinyModel::kLinear + 2.0 * 258 * 32;
    EXPECT_GT(speed.bytes_per_token, weights);
    EXPECT_LE(speed.bytes_per_token, weights + 4.0 * 2 * 2 * 16 * (16 + 8));
    EXPECT_NEAR(speed.bandwidth_fraction, speed.bytes_per_token * speed.tps.median / 1e10, 1e-12);
  }
  const auto divergence = [&](std::size_t i) { return *bench.rows[i].result->quality->divergence; };
  EXPECT_LT(std::abs(divergence(1).delta_nll), 0.02);
  EXPECT_LT(divergence(1).kld_mean, 0.1 * divergence(2).kld_mean);
  EXPECT_GT(divergence(1).top1_agreement, 0.9);
  EXPECT_NEAR(bench.rows[2].result->quality->nll - bench.rows[0].result->quality->nll,
              divergence(2).delta_nll, 1e-9);
  EXPECT_GT(bench.rows[1].result->cost->seconds, 0);
  EXPECT_GT(bench.rows[1].result->cost->peak_rss_bytes, std::size_t{1} << 20);
}

TEST(BenchModel, EveryCandidateReadsItsEmbeddingFromWhatIsStored) {
  ThreadPool pool(2);
  const test::TinyModel directory;
  const io::ModelFiles files = io::open_model(directory.path());
  const Passage text = passage();
  const io::testing::TemporaryDirectory cache;
  ModelBenchOptions asked = options({"int8:g=16"}, cache);
  const ModelBench plain = bench_model(files, &text, asked, pool);
  asked.tables = compress::table_rules(files.config, 2, 0);
  const ModelBench stored = bench_model(files, &text, asked, pool);
  EXPECT_EQ(stored.rows[0].result->quality->nll, plain.rows[0].result->quality->nll);
  EXPECT_EQ(stored.rows[1].result->storage.bpw_linear, plain.rows[1].result->storage.bpw_linear);
  EXPECT_LT(stored.rows[1].result->storage.bpw_model, plain.rows[1].result->storage.bpw_model);
  EXPECT_GT(stored.rows[1].result->quality->divergence->kld_mean,
            10 * plain.rows[1].result->quality->divergence->kld_mean);
}

TEST(BenchModel, GoesWithoutATextAndKeepsTheRowsThatWork) {
  ThreadPool pool(2);
  // The scale, a seventh of it, is beyond f16.
  const test::TinyModel directory(1, 1e10f);
  const io::ModelFiles files = io::open_model(directory.path());
  const io::testing::TemporaryDirectory cache;
  const ModelBench bench =
      bench_model(files, nullptr, options({"int4:sym=1,scale=f16", "int4:sym=1"}, cache), pool);
  EXPECT_FALSE(bench.noise);
  EXPECT_TRUE(bench.rows[0].ok());
  EXPECT_FALSE(bench.rows[0].result->quality);
  EXPECT_TRUE(bench.rows[0].result->throughput);
  EXPECT_THAT(bench.rows[1].status, HasSubstr("model.layers.1.mlp.down_proj.weight"));
  EXPECT_FALSE(bench.rows[1].result);
  EXPECT_TRUE(bench.rows[2].ok()) << bench.rows[2].status;
}

}  // namespace
}  // namespace squish::evaluate
