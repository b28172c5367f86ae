#include "squish/report/json.h"

#include <fmt/chrono.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "squish/base/isa.h"
#include "squish/base/version.h"

namespace squish::report {
namespace {

template <class Result>
Json row_head(const evaluate::Row<Result>& row) {
  return {{"method", row.method},
          {"spec", row.spec},
          {"spec_full", row.spec_full},
          {"seed", row.seed},
          {"status", row.status}};
}

}  // namespace

Json to_json(const evaluate::Timing& timing) {
  return {
      {"median", timing.median}, {"min", timing.min}, {"max", timing.max}, {"runs", timing.runs}};
}

Json to_json(const evaluate::Throughput& throughput) {
  return {{"tps", to_json(throughput.tps)},
          {"prefill_tps", to_json(throughput.prefill_tps)},
          {"bytes_per_token", throughput.bytes_per_token},
          {"bandwidth_fraction", throughput.bandwidth_fraction},
          {"fused", throughput.fused}};
}

Json to_json(const evaluate::Host& host) {
  return {{"cpu", host.cpu},
          {"isa", host.isa},
          {"isa_available", host.isa_available},
          {"blas", host.blas},
          {"threads", host.threads},
          {"read_bandwidth_gbs", host.read_bandwidth_gbs}};
}

Json to_json(const evaluate::Row<evaluate::MatrixResult>& row) {
  Json json = row_head(row);
  if (!row.result) return json;
  const evaluate::MatrixResult& result = *row.result;
  json["rows"] = result.rows;
  json["cols"] = result.cols;
  json["bpw"] = result.bpw;
  json["bpw_nominal"] = result.bpw_nominal;
  json["bits"] = {{"indices", result.bits.indices},
                  {"scales", result.bits.scales},
                  {"codebooks", result.bits.codebooks},
                  {"other", result.bits.other}};
  json["snr_db"] = result.snr_db;
  if (result.shannon_gap_db) json["shannon_gap_db"] = *result.shannon_gap_db;
  json["compress_ms"] = to_json(result.compress_ms);
  json["decompress_ms"] = to_json(result.decompress_ms);
  json["backend"] = result.backend;
  return json;
}

Json to_json(const evaluate::Divergence& divergence) {
  return {{"delta_nll", divergence.delta_nll},
          {"delta_nll_se", divergence.delta_nll_se},
          {"kld_mean", divergence.kld_mean},
          {"kld_p99", divergence.kld_p99},
          {"top1_agreement", divergence.top1_agreement}};
}

Json to_json(const evaluate::Row<evaluate::ModelResult>& row, const evaluate::Passage* passage) {
  Json json = row_head(row);
  if (!row.model.empty()) json["model"] = row.model;
  json["calibrated"] = row.calibrated;
  if (row.sequential) json["sequential"] = true;
  if (!row.result) return json;
  const evaluate::ModelResult& result = *row.result;
  json["bpw_linear"] = result.storage.bpw_linear;
  json["bpw_model"] = result.storage.bpw_model;
  json["file_bytes"] = result.storage.file_bytes;
  if (result.cost) {
    json["quantize_s"] = result.cost->seconds;
    json["peak_rss_bytes"] = result.cost->peak_rss_bytes;
  }
  if (result.quality && passage != nullptr) {
    const evaluate::Quality& quality = *result.quality;
    json["ppl"] = quality.ppl;
    json["nll"] = quality.nll;
    json["nll_se"] = quality.nll_se;
    if (quality.divergence) json.update(to_json(*quality.divergence));
    json["ppl_protocol"] = passage->label;
    json["scored_tokens"] = passage->scored();
    json["text"] = passage->text_name;
    json["text_sha256"] = passage->sha256;
  }
  if (result.throughput) {
    json.update(to_json(*result.throughput));
  }
  json["backend"] = backend_name();
  return json;
}

Json to_json(const io::ModelFiles& files) {
  return {{"path", files.path.string()},
          {"container", files.container},
          {"architecture", files.config.architecture},
          {"source_quantized", files.source_quantized}};
}

Json to_json(const io::Calibration& calibration, std::size_t shared_lines) {
  Json runs = Json::array();
  for (const auto& run : calibration.source.runs) {
    runs.push_back({{"text", run.text},
                    {"text_sha256", run.text_sha256},
                    {"tokens_sha256", run.tokens_sha256},
                    {"protocol", run.protocol},
                    {"tokens", run.tokens},
                    {"made_by", run.made_by}});
  }
  return {{"path", calibration.path.string()},
          {"digest", calibration.digest},
          {"model_sha256", calibration.source.model_sha256},
          {"runs", runs},
          {"lines_shared_with_ppl_data", shared_lines}};
}

Json program_json() {
  return {{"version", kVersion}, {"commit", kCommit}, {"compiler", kCompiler}};
}

std::string timestamp() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

std::string to_text(const Json& json) {
  // Texts of the system and of files may hold invalid UTF-8, which must not lose the results.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace squish::report
