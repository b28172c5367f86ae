#pragma once
#include "squish/compress/calibration.h"

namespace squish::compress {

/// What run_calibration() finds, the activations of all windows in memory. `done` is called after
/// each window of each block. The source is left without texts.
inline Calibration calibrate(const io::ModelFiles& files, std::span<const Window> windows,
                             ThreadPool& pool, const std::function<void()>& done) {
  std::vector<Matrix> hidden;
  const model::Embedding embedding = model::stored_embedding(files, pool);
  for (const Window& window : windows) hidden.push_back(model::embed(embedding, window));
  const auto sums = std::make_shared<io::SumsOfInputs>();
  for (std::size_t block = 0; block < files.config.layers; ++block) {
    BlockCalibrator calibrator(files, block, longest(windows), pool);
    for (const WindowRange& part : parts_of(windows.size())) {
      const std::span run(hidden.data() + part.begin, part.end - part.begin);
      io::add_sums(calibrator.run(run, done), files.path.string(), *sums, pool);
    }
  }
  Calibration calibration;
  calibration.inputs = io::views_of(sums);
  return calibration;
}

}  // namespace squish::compress
