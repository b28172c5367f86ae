#pragma once
#include <cstddef>
#include <vector>

#include "squish/base/matrix.h"
#include "squish/io/model_files.h"

/// Rotary position embedding (Su et al., "RoFormer", 2021) in Hugging Face's layout: element i of a
/// head is paired with element i + head_dim / 2.
namespace squish::model {

struct RopeFrequencies {
  std::vector<float> radians;  ///< per position, head_dim / 2 of them
  float amplitude = 1;         ///< factor on cosine and sine (YaRN; Peng et al., 2023, eq. 22)
};

/// As Hugging Face computes them. `length` is the number of tokens so far, the new ones included:
/// with dynamic NTK scaling all of a call's tokens are rotated by the frequencies for that length,
/// while cached keys keep those that they were written with.
RopeFrequencies rope_frequencies(const io::ModelConfig& config, std::size_t length);

/// Cosines and sines for the positions of one call: positions x head_dim / 2.
struct RopeTable {
  Matrix cos, sin;
  RopeFrequencies frequencies;

  RopeTable(const io::ModelConfig& config, std::size_t positions)
      : cos(positions, config.head_dim / 2), sin(positions, config.head_dim / 2) {}
  /// For positions from `first` on, always of this model.
  void fill(const io::ModelConfig& config, std::size_t first);
};

}  // namespace squish::model
