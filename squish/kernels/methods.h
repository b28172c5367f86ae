#pragma once
#include <memory>

#include "squish/kernels/kernel.h"

/// The kernels by method, for make_kernel(): null where the spec has none.
namespace squish::kernels {

std::unique_ptr<const Kernel> aqlm_kernel(std::shared_ptr<const quant::Packed> packed);
std::unique_ptr<const Kernel> int_kernel(std::shared_ptr<const quant::Packed> packed);
std::unique_ptr<const Kernel> quip_kernel(std::shared_ptr<const quant::Packed> packed);
std::unique_ptr<const Kernel> trellis_kernel(std::shared_ptr<const quant::Packed> packed);
std::unique_ptr<const Kernel> vptq_kernel(std::shared_ptr<const quant::Packed> packed);

}  // namespace squish::kernels
