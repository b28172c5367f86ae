#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace squish::compress {

/// One way to store a tensor: what it takes and what it costs.
struct Choice {
  std::uint64_t bits = 0;
  double loss = 0;  ///< finite, in the same unit for all tensors
};

/// Picks one choice for each tensor so that the bits sum to at most `budget` and the losses to as
/// little as possible; returns their indices. Walks the lower convex hulls (bits, loss) of all
/// tensors by falling loss per bit (Shoham and Gersho 1988: exact wherever the budget is met by a
/// whole step), then spends what is left on the single changes that gain most. Ties go to the
/// earlier tensor and the earlier choice. Error if even the smallest choices exceed the budget;
/// a tensor without choices is a mistake of the caller.
std::vector<std::size_t> allocate(std::span<const std::vector<Choice>> tensors,
                                  std::uint64_t budget);

}  // namespace squish::compress
