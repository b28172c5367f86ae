#include "squish/compress/calibration_job.h"

#include <chrono>
#include <optional>

#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/io/digest.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Run = io::CalibrationSource::Run;

/// What was saved, or is whole already, checked to be of this job; none: there is nothing.
std::optional<Calibration> find_saved(const fs::path& path, const io::CalibrationSource& job) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  Calibration saved = io::read_calibration(path);
  const auto refuse = [&](const char* what, const std::string& before, const std::string& now) {
    if (before == now) return;
    fail("{}: belongs to another job and cannot be resumed: {} was {} and is {}", path.string(),
         what, before, now);
  };
  refuse("the model's digest", saved.source.model_sha256, job.model_sha256);
  const Run &before = saved.source.runs.front(), &now = job.runs.front();
  if (saved.source.runs.size() > 1) fail("{}: was merged and cannot be resumed", path.string());
  refuse("the protocol", before.protocol, now.protocol);
  refuse("the text's digest", before.text_sha256, now.text_sha256);
  refuse("the tokens' digest", before.tokens_sha256, now.tokens_sha256);
  refuse("the number of windows", std::to_string(before.planned), std::to_string(now.planned));
  refuse("the program", before.made_by, now.made_by);
  return saved;
}

}  // namespace

fs::path unfinished_path(const fs::path& out) { return out.string() + ".unfinished"; }

Calibration run_calibration(const io::ModelFiles& files, const CalibrationJob& job,
                            ThreadPool& pool, const std::function<void(std::size_t n)>& done) {
  Calibration calibration;
  calibration.text_lines = job.text_lines;
  calibration.source = {.model_sha256 = io::model_digest(files, pool),
                        .runs = {{.text = job.text,
                                  .text_sha256 = job.text_sha256,
                                  .tokens_sha256 = tokens_sha256(job.windows),
                                  .protocol = job.protocol,
                                  .planned = job.windows.size(),
                                  .made_by = made_by()}}};
  Run& run = calibration.source.runs.front();
  const fs::path unfinished = unfinished_path(job.out);
  std::map<std::string, InputSums> start;
  if (job.resume) {
    std::optional<Calibration> saved = find_saved(unfinished, calibration.source);
    if (!saved) saved = find_saved(job.out, calibration.source);
    if (saved && saved->source.finished()) return std::move(*saved);
    if (saved) {
      run.windows = saved->source.runs.front().windows;
      run.tokens = saved->source.runs.front().tokens;
      start = saved->inputs;
      io::check_values(*saved);
    }
  }
  const auto calibrator = std::make_shared<Calibrator>(files, start, pool);
  start.clear();
  calibration.inputs = calibrator->sums();
  done(run.windows);

  Clock::time_point saved_at = Clock::now();
  while (run.windows < job.windows.size()) {
    const auto& window = job.windows[run.windows];
    calibrator->add(window);
    ++run.windows;
    run.tokens += window.size();
    done(1);
    const std::chrono::duration<double> since = Clock::now() - saved_at;
    if (run.windows == job.windows.size()) break;
    if (since.count() < job.save_every && !interrupted()) continue;
    calibration.inputs = calibrator->sums();
    io::write_calibration(unfinished, calibration, pool);
    saved_at = Clock::now();
    stop_if_interrupted();
  }
  calibration.inputs = calibrator->sums();
  io::write_calibration(job.out, calibration, pool);
  std::error_code ignored;  // what is left behind is whole and harmless
  fs::remove(unfinished, ignored);
  return io::read_calibration(job.out);
}

}  // namespace squish::compress
