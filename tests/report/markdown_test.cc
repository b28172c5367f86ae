#include "squish/report/markdown.h"

#include <gtest/gtest.h>

namespace squish::report {
namespace {

TEST(MarkdownTable, PadsByCharactersAndEscapesBars) {
  EXPECT_EQ(markdown_table({"A", "ΔB"}, {{"x|y", "–"}, {"long name", "1.25"}}),
            "| A         |   ΔB |\n"
            "|:----------|-----:|\n"
            "| x\\|y      |    – |\n"
            "| long name | 1.25 |\n");
}

TEST(MatrixTable, ShowsResultsAndSaysWhyRowsFailed) {
  std::vector<evaluate::Row<evaluate::MatrixResult>> rows(2);
  rows[0].spec = "int4";
  rows[0].result = {.rows = 64,
                    .cols = 64,
                    .bpw = 5.125,
                    .bpw_nominal = 5,
                    .snr_db = 21.004,
                    .compress_ms = {0.04321, 0.04, 0.05, 5},
                    .decompress_ms = {12.345, 12, 13, 5},
                    .backend = "cpp-avx2"};
  rows[1].spec = "aqlm";
  rows[1].status = "too small";
  EXPECT_EQ(
      matrix_table(rows),
      "| Method | BPW nominal | BPW stored | SNR (dB) | Compress (ms) | Decompress (ms) |  Backend "
      "|\n"
      "|:-------|------------:|-----------:|---------:|--------------:|----------------:|---------:"
      "|\n"
      "| int4   |       5.000 |      5.125 |    21.00 |        0.0432 |           12.35 | cpp-avx2 "
      "|\n"
      "| aqlm   |           – |          – |        – |             – |               – |        – "
      "|\n"
      "\n`aqlm` failed: too small\n");
}

TEST(ModelTable, ShowsEveryColumnAndWhatBelongsToTheFigures) {
  evaluate::ModelBench bench;
  bench.rows.resize(3);
  bench.rows[0].spec = bench.rows[0].method = "none";
  bench.rows[0].result = {
      .storage = {16, 16, 1000},
      .quality = evaluate::Quality{.ppl = 20, .nll = 3, .nll_se = 0.05, .divergence = {}},
      .throughput = evaluate::Throughput{{10, 9, 11, 3}, {300, 290, 310, 3}, 5e8, 0.25}};
  bench.rows[1].spec = "int4";
  bench.rows[1].result = {
      .storage = {5, 5.5, 400},
      .cost = compress::Cost{1.25, 1000},
      .quality = evaluate::Quality{.ppl = 22,
                                   .nll = 3.09,
                                   .nll_se = 0.05,
                                   .divergence = evaluate::Divergence{0.09, 0.01, 0.08, 0.5, 0.9}},
      .throughput = evaluate::Throughput{{20, 18, 22, 3}, {300, 290, 310, 3}, 1e8, 0.25}};
  bench.rows[2].spec = "vptq";
  bench.rows[2].status = "because";
  bench.noise = evaluate::Divergence{1e-7, 0, 2e-9, 1e-8, 1};
  evaluate::Passage passage;
  passage.label = "gptq-3@1";
  passage.text_name = "other";
  passage.sha256 = "abc";
  passage.windows = {{1, 2, 3}};
  const std::string table = model_table(bench, &passage, true);
  EXPECT_EQ(
      table.substr(0, table.find("\n\n") + 1),
      "| Method | BPW linear | BPW model |            PPL |     ΔNLL (nats) |    KLD |  top-1 "
      "|  TPS | prefill TPS | GB/s | Quantize (s) |\n"
      "|:-------|-----------:|----------:|---------------:|----------------:|-------:|-------:"
      "|-----:|------------:|-----:|-------------:|\n"
      "| none   |     16.000 |    16.000 | 20.000 ± 1.000 |               – |      – |      – "
      "| 10.0 |         300 |  5.0 |            – |\n"
      "| int4   |      5.000 |     5.500 | 22.000 ± 1.100 | 0.0900 ± 0.0100 | 0.0800 | 90.0 % "
      "| 20.0 |         300 |  2.0 |          1.2 |\n"
      "| vptq   |          – |         – |              – |               – |      – |      – "
      "|    – |           – |    – |            – |\n");
  for (const char* const part :
       {"gptq-3@1, 2 scored tokens of other (sha256 abc)", "KLD 2.0e-09, top-1 100.00 %",
        "The source is itself quantised", "decoded to f32 before generating: `int4`.",
        "`vptq` failed: because"}) {
    EXPECT_NE(table.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(model_table(bench, nullptr, false).find("quantised"), std::string::npos);
  bench.rows[1].result->throughput->fused = true;
  EXPECT_EQ(model_table(bench, nullptr, false).find("before generating"), std::string::npos);
}

}  // namespace
}  // namespace squish::report
