#pragma once
#include <memory>

#include "squish/io/tensor.h"
#include "squish/kernels/kernel.h"
#include "squish/quant/quantizer.h"

/// Matrices as their files have them, for kernels.
namespace squish::model {

/// A checkpoint's matrix in its method's bytes; one in GGUF's affine blocks of 32 (Q4_0, Q4_1,
/// Q5_0, Q5_1, Q8_0) as the INT matrix of the same values and size. Null: neither. Error naming the
/// tensor if its bytes do not match their checksum.
std::shared_ptr<const quant::Packed> stored_as_packed(const io::Tensor& tensor);

/// A kernel for the values as they are stored, and what a product reads.
struct StoredKernel {
  std::unique_ptr<const kernels::Kernel> kernel;  ///< null: none for this type or spec
  std::size_t bytes = 0;
};
/// Of a matrix in F16 or BF16, or of stored_as_packed().
StoredKernel stored_kernel(const io::Tensor& tensor);

}  // namespace squish::model
