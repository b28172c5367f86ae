#pragma once
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "squish/base/descriptor.h"
#include "squish/compress/candidate.h"

/// What was measured when a checkpoint's tensors were compressed: its squish.log.jsonl and
/// squish.plan.json (docs/format.md), which are not part of it and may be missing. Nothing in them
/// is trusted.
namespace squish::compress {

/// Beside the tensors: one line of JSON for each, with what it took. Other ranks than the leader
/// have a file each while the job is unfinished.
inline constexpr const char* kLogFile = "squish.log.jsonl";

/// Adds one line at a time to the log of a rank, which a killed run may have left with half a line.
class Log {
 public:
  Log(const std::filesystem::path& checkpoint, int rank);

  void write(const std::string& line);

 private:
  std::filesystem::path path_;
  Descriptor file_;
};

/// What other ranks have logged, also those of a run that was killed, becomes part of the log.
void join_logs(const std::filesystem::path& checkpoint);

/// By tensor, the last line of the log with the spec that it has in the checkpoint: `tensor`,
/// `spec`, `bpw`, `snr_db`, `seconds`, ...; of tensors that were taken from a folder of candidates,
/// which the log does not know, what the plan says: `tensor`, `spec`, `bpw`, `proxy_snr_db`.
std::map<std::string, nlohmann::json> tensor_log(const std::filesystem::path& checkpoint);

/// Seconds of all tensors together, and the peak memory; none if the log lacks a tensor.
std::optional<Cost> logged_cost(const std::filesystem::path& checkpoint);

}  // namespace squish::compress
