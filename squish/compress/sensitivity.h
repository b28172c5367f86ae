#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "squish/base/threads.h"
#include "squish/io/model_files.h"
#include "squish/model/tokenizer.h"

/// How much a model's predictions move when one of its linear layers is replaced.
namespace squish::compress {

struct Probe {
  std::function<bool(const std::string& linear)> wanted;
  std::function<Matrix(const std::string& linear)> replacement;
  /// KL(p_model || p_with_the_replacement), nats, mean over all positions of all windows.
  std::function<void(const std::string& linear, double kld)> found;
};

/// Calls `found` for each linear layer that is wanted, in the order of io::linear_names(). Each is
/// replaced alone; the blocks before it are run once for all. Deterministic for any number of
/// threads. Error if logits are not finite.
void probe_layers(const io::ModelFiles& files, std::span<const std::vector<model::TokenId>> windows,
                  const Probe& probe, ThreadPool& pool);

/// Anonymous memory that it takes at most, of `tokens` in windows of at most `window`: mostly the
/// head in floats and the logits of all positions.
std::size_t probing_memory(const io::ModelConfig& config, std::size_t window, std::size_t tokens);

}  // namespace squish::compress
