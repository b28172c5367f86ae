#pragma once
#include <string>

#include "squish/base/matrix.h"
#include "squish/base/threads.h"

namespace squish::evaluate {

struct NamedWeights {
  std::string name;  ///< the tensor's, as the file has it
  Matrix weights;
  bool source_quantized = false;  ///< the file holds it in blocks of a quantised type
};

/// "FILE:TENSOR" or "FILE" taken apart; `tensor` is empty in the second.
struct WeightsPath {
  std::string file, tensor;
};
WeightsPath split_weights_path(const std::string& where);

/// "FILE:TENSOR", a tensor of a safetensors or GGUF (.gguf) file with its last dimension as
/// columns; GGUF's names and Hugging Face's both serve. "FILE" alone where the file holds a single
/// matrix. Error that names some of the tensors otherwise, or the first weight that is not finite
/// or beyond what quantize() takes.
NamedWeights load_weights(const std::string& where, ThreadPool& pool);

}  // namespace squish::evaluate
