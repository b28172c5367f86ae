#include "squish/report/markdown.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <map>

#include "squish/base/text.h"

namespace squish::report {
namespace {

const std::string kMissing = "–";

/// Columns on a terminal, for the characters used here: one a code point.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to, bool left) {
  const std::string space(to - width(text), ' ');
  return left ? text + space : space + text;
}

/// At least three significant digits, for times from microseconds to minutes.
std::string milliseconds(double ms) {
  if (ms < 1) return fmt::format("{:.4f}", ms);
  if (ms < 100) return fmt::format("{:.2f}", ms);
  return fmt::format("{:.0f}", ms);
}

std::string number(double value, int digits) {
  return std::isnan(value) ? kMissing : fmt::format("{:.{}f}", value, digits);
}

template <class Result>
std::string failures(std::span<const evaluate::Row<Result>> rows) {
  std::string text;
  for (const auto& row : rows) {
    if (!row.ok()) text += fmt::format("\n`{}` failed: {}\n", row.spec, printable(row.status));
  }
  return text;
}

std::string label(const evaluate::Row<evaluate::ModelResult>& row) {
  return row.spec + (row.sequential ? " sequential" : row.calibrated ? " calibrated" : "");
}

/// The cells of a row of model_table() after the first.
void fill(std::vector<std::string>& line, const evaluate::ModelResult& result) {
  line[1] = number(result.storage.bpw_linear, 3);
  line[2] = number(result.storage.bpw_model, 3);
  if (result.quality) {
    const evaluate::Quality& quality = *result.quality;
    line[3] = fmt::format("{:.3f} ± {}", quality.ppl, number(quality.ppl * quality.nll_se, 3));
    if (quality.divergence) {
      const evaluate::Divergence& divergence = *quality.divergence;
      line[4] =
          fmt::format("{:.4f} ± {}", divergence.delta_nll, number(divergence.delta_nll_se, 4));
      line[5] = number(divergence.kld_mean, 4);
      line[6] = fmt::format("{:.1f} %", 100 * divergence.top1_agreement);
    }
  }
  if (result.throughput) {
    const evaluate::Throughput& speed = *result.throughput;
    line[7] = number(speed.tps.median, 1);
    line[8] = number(speed.prefill_tps.median, 0);
    line[9] = number(1e-9 * speed.bytes_per_token * speed.tps.median, 1);
  }
  if (result.cost) line[10] = number(result.cost->seconds, 1);
}

}  // namespace

std::string markdown_table(const std::vector<std::string>& titles,
                           const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<std::string>> lines = {titles};
  lines.insert(lines.end(), rows.begin(), rows.end());
  std::vector<std::size_t> widths(titles.size(), 3);
  for (auto& line : lines) {
    assert(line.size() == titles.size());
    for (std::size_t i = 0; i < line.size(); ++i) {
      for (std::size_t at = 0; (at = line[i].find('|', at)) != std::string::npos; at += 2) {
        line[i].insert(at, 1, '\\');
      }
      widths[i] = std::max(widths[i], width(line[i]));
    }
  }
  std::string text;
  for (std::size_t n = 0; n < lines.size(); ++n) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += "| " + padded(lines[n][i], widths[i], i == 0) + " ";
    }
    text += "|\n";
    if (n > 0) continue;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += (i == 0 ? "|:" : "|-") + std::string(widths[i], '-') + (i == 0 ? "-" : ":");
    }
    text += "|\n";
  }
  return text;
}

std::string matrix_table(std::span<const evaluate::Row<evaluate::MatrixResult>> rows) {
  const std::vector<std::string> titles = {"Method",   "BPW nominal",   "BPW stored",
                                           "SNR (dB)", "Compress (ms)", "Decompress (ms)",
                                           "Backend"};
  std::vector<std::vector<std::string>> lines;
  for (const auto& row : rows) {
    std::vector<std::string> line = {row.spec};
    if (row.result) {
      const evaluate::MatrixResult& result = *row.result;
      line.insert(line.end(), {number(result.bpw_nominal, 3), number(result.bpw, 3),
                               number(result.snr_db, 2), milliseconds(result.compress_ms.median),
                               milliseconds(result.decompress_ms.median), result.backend});
    }
    line.resize(titles.size(), kMissing);
    lines.push_back(std::move(line));
  }
  return markdown_table(titles, lines) + failures(rows);
}

std::string model_table(const evaluate::ModelBench& bench, const evaluate::Passage* passage,
                        bool source_quantized) {
  const std::vector<std::string> titles = {"Method",      "BPW linear", "BPW model",   "PPL",
                                           "ΔNLL (nats)", "KLD",        "top-1",       "TPS",
                                           "prefill TPS", "GB/s",       "Quantize (s)"};
  std::vector<std::vector<std::string>> lines;
  std::map<std::string, int> rows_of;
  for (const auto& row : bench.rows) ++rows_of[label(row)];
  for (const auto& row : bench.rows) {
    std::vector<std::string> line(titles.size(), kMissing);
    line[0] = label(row);
    if (rows_of[line[0]] > 1 && !row.model.empty()) line[0] += fmt::format(" ({})", row.model);
    if (row.result) fill(line, *row.result);
    lines.push_back(std::move(line));
  }
  std::string text = markdown_table(titles, lines);
  if (passage != nullptr) {
    text += fmt::format("\nPPL ± standard error: {}, {} scored tokens of {} (sha256 {}).\n",
                        passage->label, passage->scored(), passage->text_name, passage->sha256);
  }
  if (bench.noise) {
    text += fmt::format(
        "Noise floor (the uncompressed model against itself with another thread count and "
        "another instruction set in our own vector loops; BLAS unchanged): ΔNLL {:.1e}, KLD "
        "{:.1e}, top-1 {:.2f} %.\n",
        bench.noise->delta_nll, bench.noise->kld_mean, 100 * bench.noise->top1_agreement);
  }
  std::string unfused;
  for (const auto& row : bench.rows) {
    if (row.method == "none" || !row.result || !row.result->throughput) continue;
    if (row.result->throughput->fused) continue;
    if (unfused.find('`' + row.spec + '`') != std::string::npos) continue;
    unfused += (unfused.empty() ? "`" : ", `") + row.spec + '`';
  }
  if (!unfused.empty()) {
    text += "\nWithout kernels yet, decoded to f32 before generating: " + unfused + ".\n";
  }
  if (source_quantized) {
    text += kQuantisedSource;
  }
  return text + failures<evaluate::ModelResult>(bench.rows);
}

}  // namespace squish::report
