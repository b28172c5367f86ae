#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "squish/evaluate/host.h"
#include "squish/evaluate/model_bench.h"
#include "squish/evaluate/reconstruction.h"
#include "squish/evaluate/row.h"

/// Results as JSON under metrics.md's names. A field whose value does not exist (a failed row's
/// results, the Shannon gap of real weights) is left out; one without a finite value is null.
namespace squish::report {

using Json = nlohmann::ordered_json;

Json to_json(const evaluate::Timing& timing);
Json to_json(const evaluate::Throughput& throughput);
Json to_json(const evaluate::Host& host);
Json to_json(const evaluate::Row<evaluate::MatrixResult>& row);
/// `passage` is what the perplexities were measured on; null: none were.
Json to_json(const evaluate::Row<evaluate::ModelResult>& row, const evaluate::Passage* passage);
Json to_json(const evaluate::Divergence& divergence);
Json to_json(const io::ModelFiles& files);
/// `shared_lines`: how many lines its text has in common with the text for evaluation.
Json to_json(const io::Calibration& calibration, std::size_t shared_lines);

/// {version, commit, compiler}.
Json program_json();
/// Now, in UTC: "2026-11-23T15:04:05Z".
std::string timestamp();

/// Whole lines of two spaces' indentation, ending in a newline.
std::string to_text(const Json& json);

}  // namespace squish::report
