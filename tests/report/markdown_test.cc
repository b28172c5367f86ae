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

}  // namespace
}  // namespace squish::report
