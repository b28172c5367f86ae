#pragma once
#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/io/model_files.h"

namespace squish::model {

/// Causal softmax attention with grouped queries: heads / kv_heads query heads share one head of
/// keys and values (Ainslie et al., 2023).
///   queries, out   n x (heads * head_dim), rotated already; the last n positions of the sequence
///   keys, values   length x (kv_heads * head_dim), positions [0, length), length >= n
/// With a sliding window w, a query sees itself and the w - 1 positions before it (Mistral).
void attention(const io::ModelConfig& config, ConstMatrixView queries, ConstMatrixView keys,
               ConstMatrixView values, MatrixView out, ThreadPool& pool);

}  // namespace squish::model
