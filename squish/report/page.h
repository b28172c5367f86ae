#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "squish/report/json.h"

/// Results as one HTML file that needs nothing else: figures, sortable tables and the command of
/// each row, drawn in the reader's browser by the script that it holds (squish/report/page/).
namespace squish::report {

struct Page {
  std::vector<Json> files;  ///< results of `squish bench` and `squish eval`, in the order shown
  std::vector<Json> checkpoints;  ///< {name, tensors}: what was measured when each was compressed
};

/// `results`: what bench and eval write (schemas squish.bench/1 and squish.eval/1, metrics.md),
/// shown as `name`. Error, naming it, if it is something else.
void add_results(Page& page, const Json& results, const std::string& name);

/// A results file, or the folder of a checkpoint, of whose squish.log.jsonl the lines of the specs
/// that were chosen are shown. Nothing in them is trusted.
void add_source(Page& page, const std::filesystem::path& path);

std::string to_html(const Page& page);

}  // namespace squish::report
