#pragma once
#include <cstdint>

#include "squish/compress/model.h"
#include "squish/io/model_files.h"

namespace squish::evaluate {

/// What a model takes on disk (metrics.md, 'On a model').
struct Storage {
  double bpw_linear = 0;         ///< over the linear layers of the blocks
  double bpw_model = 0;          ///< over all tensors; a tied head counts once
  std::uint64_t file_bytes = 0;  ///< the whole checkpoint, what is not tensors included
};

/// The source as it lies on disk, whatever its types.
Storage source_storage(const io::ModelFiles& files);

/// A checkpoint of the quantised layers and, in the source's types, everything else. `file_bytes`
/// is the bytes of all sections and tensors, each begun on 64 bytes, and as many bytes beside them
/// (header, metadata, a GGUF's tokenizer) as the source has, so that the two can be compared.
Storage packed_storage(const io::ModelFiles& files, const compress::PackedModel& packed);

}  // namespace squish::evaluate
