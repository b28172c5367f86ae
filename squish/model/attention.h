#pragma once
#include <string>

#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/io/model_files.h"
#include "squish/kernels/kernel.h"

namespace squish::model {

/// What keys and values are kept as. int8: rotated by a Hadamard matrix, which spreads what single
/// elements have of a head over all of them (QuaRot, arXiv 2404.00456), then in units of a 127th of
/// their largest magnitude, which are kept beside them; keys as what they differ by from the first
/// of kKvChunk positions, since biases hundreds of times as large as all else (Qwen2's) lie where
/// RoPE hardly turns them from one position to the next.
enum class KvElement { f32, f16, int8 };
std::size_t element_bytes(KvElement element);
std::string to_string(KvElement element);

/// Few enough that a head's keys stay in the first-level cache for all queries that share them.
inline constexpr std::size_t kKvChunk = 64;
constexpr std::size_t kv_chunks(std::size_t positions) {
  return (positions + kKvChunk - 1) / kKvChunk;
}

/// Keys and values of positions [0, length): kv_heads runs of `capacity` positions of head_dim
/// numbers.
struct KvView {
  KvElement element;
  const std::byte *keys, *values;
  // int8 alone has these.
  const float *key_units, *value_units;  ///< kv_heads x capacity
  const float* references;            ///< the first key of each chunk: kv_heads x chunks x head_dim
  const kernels::Rotation* rotation;  ///< of a head
  std::size_t capacity, length;
};

/// Causal softmax attention with grouped queries: heads / kv_heads query heads share one head of
/// keys and values (Ainslie et al., 2023).
///   queries, out   n x (heads * head_dim), rotated already; the last n of kv.length positions
/// With a sliding window w, a query sees itself and the w - 1 positions before it (Mistral).
void attention(const io::ModelConfig& config, ConstMatrixView queries, const KvView& kv,
               MatrixView out, ThreadPool& pool);

}  // namespace squish::model
