#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "squish/base/threads.h"
#include "squish/io/calibration.h"
#include "squish/io/model_files.h"
#include "squish/model/transformer.h"

/// Calibration: what the inputs of a model's linear layers look like on a text. The text goes
/// through one block of the model at a time, in parts of its windows that are summed on their own,
/// so that memory holds a block and its sums alone, and parts may be anybody's work.
namespace squish::compress {

using io::Calibration;
using io::input_name;
using io::InputSums;
using Window = std::vector<model::TokenId>;

/// What the last bits of the sums depend on besides model and text.
std::string made_by();

/// Digest of the tokens of all windows.
std::string tokens_sha256(std::span<const Window> windows);

/// Windows [begin, end) of a text.
struct WindowRange {
  std::size_t begin, end;
};
/// At most 32, as equal as can be: that depends on nothing but the number of windows. The sums of a
/// calibration are those of its parts, each from zero, added in their order.
std::vector<WindowRange> parts_of(std::size_t windows);
/// Windows in the largest of them.
std::size_t largest_part(std::size_t windows);

/// Tokens of the longest window.
std::size_t longest(std::span<const Window> windows);

/// Of model::build_block()'s model, for its cache.
io::ModelConfig one_block(io::ModelConfig config);

/// One block, its linear layers in floats.
class BlockCalibrator {
 public:
  /// For windows of no more than `most` tokens.
  BlockCalibrator(const io::ModelFiles& files, std::size_t block, std::size_t most,
                  ThreadPool& pool);
  BlockCalibrator(const BlockCalibrator&) = delete;
  BlockCalibrator& operator=(const BlockCalibrator&) = delete;

  /// `hidden`, of some windows, goes through the block, in place; the sums over these windows of
  /// what its linear layers are given. `done` is called after each window. Deterministic for any
  /// number of threads.
  std::map<std::string, InputSums> run(std::span<Matrix> hidden, const std::function<void()>& done);

 private:
  io::SumsOfInputs* sums_ = nullptr;  // of the run at work
  model::Transformer block_;
  model::KvCache cache_;
  std::optional<model::BlockRunner> runner_;
};

}  // namespace squish::compress
