#pragma once
#include <memory>

#include "squish/io/tensor.h"
#include "squish/model/linear.h"
#include "squish/quant/quantizer.h"

/// Matrices as their files have them, for kernels.
namespace squish::model {

/// A checkpoint's matrix in its method's bytes; one in GGUF's affine blocks of 32 (Q4_0, Q4_1,
/// Q5_0, Q5_1, Q8_0) as the INT matrix of the same values and size. Null: neither. Error naming the
/// tensor if its bytes do not match their checksum.
std::shared_ptr<const quant::Packed> stored_as_packed(
    const io::Tensor& tensor, io::Placement placement = io::Placement::mapped);

/// A matrix in F16, BF16 or as stored_as_packed(), with its kernel, if there is one. Those that are
/// not stored as kernels want them (GGUF's blocks, rows in another order) are copied in any case.
/// Error naming the tensor if its bytes do not match their checksum or a weight (of GGUF's blocks,
/// a scale) is not finite; scales in a method's bytes are not looked at.
StoredWeights stored_weights(const io::Tensor& tensor,
                             io::Placement placement = io::Placement::mapped);

}  // namespace squish::model
