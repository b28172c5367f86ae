#pragma once
#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/io/model_files.h"
#include "squish/kernels/half.h"

namespace squish::model {

/// Keys and values of positions [0, length): kv_heads runs of `capacity` positions of head_dim
/// numbers, f32 or f16.
struct KvView {
  kernels::Element element;
  const std::byte *keys, *values;
  std::size_t capacity, length;
};

/// Causal softmax attention with grouped queries: heads / kv_heads query heads share one head of
/// keys and values (Ainslie et al., 2023).
///   queries, out   n x (heads * head_dim), rotated already; the last n of kv.length positions
/// With a sliding window w, a query sees itself and the w - 1 positions before it (Mistral).
void attention(const io::ModelConfig& config, ConstMatrixView queries, const KvView& kv,
               MatrixView out, ThreadPool& pool);

}  // namespace squish::model
