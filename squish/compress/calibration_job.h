#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "squish/base/team.h"
#include "squish/compress/calibration.h"

/// The job behind `squish calibrate`: a model over a text into a calibration file, block by block,
/// resumable, shared out among ranks.
namespace squish::compress {

struct CalibrationJob {
  std::filesystem::path out;
  std::vector<Window> windows;
  std::string text, text_sha256, protocol;  ///< io::CalibrationSource::Run's
  std::vector<std::uint64_t> text_lines;    ///< io::Calibration's
  bool resume = false;
  /// Seconds of work between two saves of a block's sums so far; 0: after every part.
  double save_every = 60;
  std::size_t max_memory = 0;  ///< Error where more is expected to be needed; 0: no matter
  /// That share out the parts of the text; null: this process alone.
  Team* team = nullptr;
};

/// What the job keeps beside its result while it is unfinished: the folder "OUT.unfinished"
/// (docs/format.md).
std::filesystem::path unfinished_path(const std::filesystem::path& out);

/// Writes job.out and returns it as it was written. With `resume` a job that was killed goes on
/// from what it saved, and ends in the bytes of one that was not; where job.out is there and whole
/// it is left alone. Error if what was saved belongs to another model, text, version or instruction
/// set. `done(n)` is called after n more windows went through a block.
Calibration run_calibration(const io::ModelFiles& files, const CalibrationJob& job,
                            ThreadPool& pool, const std::function<void(std::size_t n)>& done);

/// Anonymous memory that it takes at most.
std::size_t calibration_memory(const io::ModelFiles& files, std::span<const Window> windows);

}  // namespace squish::compress
