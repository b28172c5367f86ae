#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "squish/base/matrix.h"
#include "squish/compress/calibration.h"

namespace squish::compress {

/// The activations of all windows of a text between two stages of a model (its blocks), in files of
/// a folder, one for each part of the windows: memory holds a part at a time, a job that was killed
/// finds what it had, and ranks find what others made.
class HiddenStates {
 public:
  /// Files are called after `stem`; `width`: elements of an activation.
  HiddenStates(std::filesystem::path folder, std::string stem, std::span<const Window> windows,
               std::size_t width);

  const std::vector<WindowRange>& parts() const { return parts_; }
  bool holds(std::size_t stage, std::size_t part) const;
  /// tokens x width for each window of the part. Error naming the file if that is not in it.
  std::vector<Matrix> read(std::size_t stage, std::size_t part) const;
  /// Whole or not at all.
  void write(std::size_t stage, std::size_t part, std::span<const Matrix> hidden) const;
  /// All parts of a stage, as far as they are there.
  void remove(std::size_t stage) const;

 private:
  std::filesystem::path file(std::size_t stage, std::size_t part) const;

  std::filesystem::path folder_;
  std::string stem_;
  std::span<const Window> windows_;
  std::size_t width_;
  std::vector<WindowRange> parts_;
};

}  // namespace squish::compress
