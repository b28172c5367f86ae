#pragma once
#include <cstddef>

#include "squish/evaluate/timing.h"
#include "squish/model/transformer.h"

namespace squish::evaluate {

/// How fast a model runs at batch 1 (metrics.md, fields of those names).
struct Throughput {
  Timing tps, prefill_tps;     ///< tokens per second
  double bytes_per_token = 0;  ///< at the mean length of the cache
  double bandwidth_fraction = 0;
  bool fused = false;  ///< compressed layers are multiplied as they are stored; else as floats
};

/// Bytes of weights that one token must read: all layers and the head.
std::size_t weight_bytes(const model::Transformer& model);

/// Greedy generation of `tokens` tokens after a prompt of 16, whose time does not count, and a
/// prompt of 512 tokens; both shorter where the model takes fewer. Three runs of each or as many
/// as fit into 6 s (3 s for the prompt), at least one. The tokens are arbitrary: they do not change
/// the work.
Throughput measure_throughput(const model::Transformer& model, std::size_t tokens,
                              double read_bandwidth_gbs, ThreadPool& pool,
                              model::KvElement kv = model::KvElement::f16);

}  // namespace squish::evaluate
