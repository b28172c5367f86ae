#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "squish/quant/quantizer.h"

/// Codebooks that several matrices have in common, for models too small to give each its own:
/// learned from vectors of all of them, stored once, then left as they are. Not in the papers of
/// the methods that have them (VPTQ, AQLM), where each matrix has its own.
namespace squish::quant {

/// The key `share` of a method: among which tensors its codebooks are shared.
Key share_key();

enum class Sharing { none, role, model };
Sharing sharing_of(const Spec& spec);

/// Collects vectors, matrix by matrix, and learns codebooks from them. An error counts relative to
/// the energy of its matrix, and each matrix by its size.
class SharedTraining {
 public:
  /// `weights`: how many all matrices hold together. `key` names the codebooks, for their random
  /// streams; `spec` is one that shares.
  SharedTraining(const Spec& spec, std::size_t weights, std::string_view key, std::uint64_t seed,
                 ThreadPool& pool);
  ~SharedTraining();

  /// Takes a share of the vectors of a matrix. `importance` of an error in each column, the
  /// diagonal of its H (of use where vectors lie within columns); empty: all alike.
  void add(ConstMatrixView matrix, std::span<const float> importance, std::string_view name);

  /// What EncodeContext::shared takes.
  std::shared_ptr<const Section> learn();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace squish::quant
