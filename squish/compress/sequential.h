#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "squish/base/team.h"
#include "squish/base/threads.h"
#include "squish/compress/hidden_states.h"
#include "squish/compress/sequential_sums.h"
#include "squish/io/model_files.h"
#include "squish/model/transformer.h"
#include "squish/quant/moments.h"

/// Calibration behind what is compressed already: a text goes through the original model and
/// through the compressed one at the same time, block by block, so that a layer is compressed for
/// the inputs that it will have, x̂, and for the outputs that the original has, W x.
namespace squish::compress {

/// What is known of one input. Of all linear maps of x̂, W + W correction + residual is the one that
/// brings what the layer adds to nearest to what it is in the original, in mean square: W x for
/// most; for o_proj and down_proj, whose outputs are added to the residual stream r, r - r̂ + W x.
struct SequentialInput {
  quant::InputMoments moments;  ///< of x̂
  /// E[(x - x̂) x̂ᵀ] (E[x̂ x̂ᵀ] + ridge)⁻¹; empty where x̂ is x, as in the first block.
  Matrix correction;
  /// E[(r - r̂) x̂ᵀ] (E[x̂ x̂ᵀ] + ridge)⁻¹; empty for other layers.
  Matrix residual;
};

class SequentialInputs {
 public:
  /// What became of a linear layer, as floats; none: it stays as it is.
  using Compressed = std::function<std::optional<Matrix>(const std::string& linear)>;

  /// The activations of both models between two layers lie in files in `folder`, which all ranks
  /// see; one that was stopped behind the same tensors is gone on from there. Memory holds both
  /// models' current block in floats. The parts of the text are shared out among the team.
  SequentialInputs(const io::ModelFiles& files, std::span<const Window> windows,
                   Compressed compressed, std::filesystem::path folder, Team& team,
                   ThreadPool& pool);

  /// Of the input of `linear`, on all ranks at once; asked for in the order of io::linear_names(),
  /// inputs may be left out. All linear layers before those that share this input are then taken
  /// from `compressed`. Error where no activation is finite.
  SequentialInput at(const std::string& linear);

 private:
  struct Stream {
    model::Transformer block;  // the current one
    HiddenStates hidden;       // by half of a block: what it is given
  };
  bool holds(std::size_t half, std::size_t part) const;
  void start(std::size_t most);
  void embed_text();
  void load_block(Stream& stream);
  void install(std::size_t end);
  void advance();
  void for_each_part(const std::function<void(std::size_t part)>& body);
  SequentialSums no_sums(model::LayerInput input) const;
  SequentialSums measure_part(model::LayerInput input, std::size_t part);
  SequentialSums sums_of(model::LayerInput input);
  SequentialInput measure(model::LayerInput input);

  const io::ModelFiles& files_;
  std::span<const Window> windows_;
  Compressed compressed_;
  std::filesystem::path folder_;
  Team& team_;
  ThreadPool& pool_;
  std::vector<std::string> names_;  // all linear layers
  std::size_t installed_ = 0;       // of them, taken from compressed_
  std::size_t halves_ = 0;          // that both streams are behind
  bool is_started_ = false;
  Stream original_, own_;
  model::KvCache cache_;  // as large as the longest window; stays empty between two calls
};

/// Anonymous memory that SequentialInputs takes at most, besides what a job takes anyway.
std::size_t sequential_memory(const io::ModelFiles& files, std::span<const Window> windows);

}  // namespace squish::compress
