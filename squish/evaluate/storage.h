#pragma once
#include <cstdint>

#include "squish/io/model_files.h"

namespace squish::evaluate {

/// What a model takes on disk (metrics.md, 'On a model').
struct Storage {
  double bpw_linear = 0;         ///< over the linear layers of the blocks
  double bpw_model = 0;          ///< over all tensors; a tied head counts once
  std::uint64_t file_bytes = 0;  ///< of the model files, headers and paddings included
};

/// A model as it lies on disk, whatever its types.
Storage storage_of(const io::ModelFiles& files);

}  // namespace squish::evaluate
