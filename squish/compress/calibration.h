#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "squish/base/threads.h"
#include "squish/io/calibration.h"
#include "squish/io/model_files.h"
#include "squish/model/tokenizer.h"

/// Calibration: what the inputs of a model's linear layers look like on a text.
namespace squish::compress {

using io::Calibration;
using io::input_name;
using io::InputSums;

/// What the last bits of the sums depend on besides model and text.
std::string made_by();

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
