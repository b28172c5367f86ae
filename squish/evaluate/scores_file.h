#pragma once
#include <chrono>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "squish/evaluate/perplexity.h"
#include "squish/io/model_files.h"

/// The scores of a pass over a text that was stopped, from which it goes on.
namespace squish::evaluate {

/// How models are run.
struct PassOptions {
  bool with_reference = false;  ///< the first is the others'
  std::size_t few = 0;          ///< the `fused` that load_transformer() gets; 0: all is decoded
  std::string kv;               ///< what keys and values are kept as
};

/// Digest of all that the scores of these models depend on, the program itself included. Reads all
/// of them, on all ranks at once.
std::string pass_digest(std::span<const io::ModelFiles* const> models, const PassOptions& options,
                        const Passage& passage, Team& team, ThreadPool& pool);

/// A file that keeps them: safetensors, `I.nll` and `I.kld` F64 and `I.agrees` U8 for model I,
/// which only the program that wrote it takes.
class ScoresFile {
 public:
  /// `pass`: the digest, worked out where the file is read or written for the first time, which
  /// many a pass is too short for. `save_every`: seconds of work between two saves.
  ScoresFile(std::filesystem::path path, std::function<std::string()> pass, double save_every)
      : path_(std::move(path)), make_pass_(std::move(pass)), save_every_(save_every) {}

  /// Those of `models` models, each of whole windows of the passage; all empty where there is no
  /// file. Error if it is damaged or another pass's.
  std::vector<Scores> read(std::size_t models, const Passage& passage);

  /// Writes the file if the last time is long enough ago or the job is to stop (Interrupted),
  /// unless a model has failed: that may have another cause than the model.
  void keep(std::span<const Scores> scores);

  /// For when the results are safe.
  void remove() const;

 private:
  const std::string& pass();
  void write(std::span<const Scores> scores);

  std::filesystem::path path_;
  std::function<std::string()> make_pass_;
  std::string pass_;  // empty: not worked out yet
  std::chrono::duration<double> save_every_;
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
};

}  // namespace squish::evaluate
