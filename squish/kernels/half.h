#pragma once
#include <cstddef>
#include <memory>
#include <span>

#include "squish/kernels/kernel.h"

/// Kernels for matrices that are not compressed: products of floats, and the input as it is.
namespace squish::kernels {

enum class Element { f32, f16, bf16 };
constexpr std::size_t element_bytes(Element element) { return element == Element::f32 ? 4 : 2; }

/// Of a rows x cols matrix stored row by row in `values`, little-endian and aligned to nothing,
/// which stay where they are as long as `owner` lives. Error if their number is another.
std::unique_ptr<const Kernel> half_kernel(std::shared_ptr<const void> owner,
                                          std::span<const std::byte> values, std::size_t rows,
                                          std::size_t cols, Element element);

}  // namespace squish::kernels
