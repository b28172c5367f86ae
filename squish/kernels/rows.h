#pragma once
#include <cstddef>

namespace squish::kernels {

/// Rows that are worked out together where a row's weights are stored one after the other: they
/// share what is loaded of the input.
inline constexpr std::size_t kRows = 4;

}  // namespace squish::kernels
