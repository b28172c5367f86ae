#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/threads.h"
#include "squish/io/model_files.h"
#include "squish/model/tokenizer.h"
#include "squish/quant/moments.h"

/// Calibration: what the inputs of a model's linear layers look like on a text.
namespace squish::compress {

/// The input of a linear layer, by its tensor's name: "model.layers.3.self_attn.qkv" for q_proj,
/// k_proj and v_proj, ".mlp.gate_up" for gate_proj and up_proj, which share one; otherwise the
/// layer's own name without ".weight".
std::string input_name(const std::string& linear);

/// Sums over the tokens at one input. They may lie in a mapped file: `owner` keeps them alive.
struct InputSums {
  std::uint64_t tokens = 0;          ///< that are in the sums
  std::uint64_t dropped = 0;         ///< activations that are not finite, or beyond +-1e15
  std::size_t width = 0;             ///< elements of an activation
  std::span<const double> sum;       ///< of x, width
  std::span<const double> products;  ///< of x xᵀ, linalg::triangle_size(width)
  std::shared_ptr<const void> owner;
};

/// What a calibration was made from and by. Two of one model can be merged; their lists are joined.
struct CalibrationSource {
  std::string model_sha256;  ///< io::model_digest()
  /// One entry for each run that was merged, in ascending order of tokens_sha256.
  struct Run {
    std::string text;           ///< name or path, for people
    std::string text_sha256;    ///< of the text that was tokenised
    std::string tokens_sha256;  ///< of all windows, u32 little-endian
    std::string protocol;       ///< "gptq-2048": cutting and window length
    std::uint64_t windows = 0, tokens = 0;
    std::string made_by;  ///< what the last bits depend on: version, instruction set, BLAS
    bool operator==(const Run&) const = default;
  };
  std::vector<Run> runs;
  bool operator==(const CalibrationSource&) const = default;
};

struct Calibration {
  CalibrationSource source;
  std::map<std::string, InputSums> inputs;  ///< by input_name()

  /// The moments of the input of `linear` (a tensor's name), made anew at every call: width²
  /// doubles. Error naming it if there is no such input, or if all of its activations were dropped.
  quant::InputMoments moments(const std::string& linear) const;
};

/// Digest of the tokens of all windows.
std::string tokens_sha256(std::span<const std::vector<model::TokenId>> windows);

/// Runs a model over windows of text, one after the other, and adds up what its linear layers are
/// given. Memory: the model in floats and the sums. Deterministic for any number of threads.
class Calibrator {
 public:
  Calibrator(const io::ModelFiles& files, ThreadPool& pool);
  /// Goes on from sums made earlier (of the same model, which is not checked here).
  Calibrator(const io::ModelFiles& files, const std::map<std::string, InputSums>& start,
             ThreadPool& pool);
  ~Calibrator();

  void add(std::span<const model::TokenId> window);
  /// The sums so far. They change with the next add().
  std::map<std::string, InputSums> sums() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// All windows at once; `done` is called after each. The source is left without texts.
Calibration calibrate(const io::ModelFiles& files,
                      std::span<const std::vector<model::TokenId>> windows, ThreadPool& pool,
                      const std::function<void()>& done);

}  // namespace squish::compress
