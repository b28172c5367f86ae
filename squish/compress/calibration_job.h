#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "squish/compress/calibration.h"

/// The job behind `squish calibrate`: a model over a text into a calibration file, resumable.
namespace squish::compress {

struct CalibrationJob {
  std::filesystem::path out;
  std::vector<std::vector<model::TokenId>> windows;
  std::string text, text_sha256, protocol;  ///< io::CalibrationSource::Run's
  std::vector<std::uint64_t> text_lines;    ///< io::Calibration's
  bool resume = false;
  /// Seconds of work between two saves of what has been summed so far; 0: after every window.
  double save_every = 60;
};

/// Where those are saved, beside the result: "OUT.unfinished", in the same format.
std::filesystem::path unfinished_path(const std::filesystem::path& out);

/// Writes job.out and returns it as it was written. With `resume` a job that was killed goes on
/// from its last save, and ends in the bytes of one that was not; where job.out is there and whole
/// it is left alone. Error if what was saved belongs to another model, text, version or instruction
/// set. `done(n)` is called after n more windows.
Calibration run_calibration(const io::ModelFiles& files, const CalibrationJob& job,
                            ThreadPool& pool, const std::function<void(std::size_t n)>& done);

}  // namespace squish::compress
