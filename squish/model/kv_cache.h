#pragma once
#include <cstddef>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/io/model_files.h"
#include "squish/model/attention.h"

namespace squish::model {

/// Keys (rotated) and values of past tokens.
class KvCache {
 public:
  /// As f32, or as f16 (to nearest): half the memory and, where much is remembered, of the time.
  KvCache(const io::ModelConfig& config, std::size_t capacity,
          kernels::Element element = kernels::Element::f32);
  std::size_t length() const { return length_; }
  std::size_t capacity() const { return capacity_; }
  void clear() { length_ = 0; }
  /// Bytes that attention reads for one more token.
  std::size_t bytes() const;

  /// Those of a layer for positions from length() on, tokens x (kv_heads * head_dim); they count
  /// once all layers have theirs and advance() was called.
  void store(std::size_t layer, ConstMatrixView keys, ConstMatrixView values, ThreadPool& pool);
  void advance(std::size_t tokens) { length_ += tokens; }
  /// What a layer has for the first `length` positions.
  KvView layer(std::size_t layer, std::size_t length) const;

 private:
  struct Layer {
    Bytes keys, values;
  };

  kernels::Element element_;
  std::size_t heads_, head_dim_, length_ = 0, capacity_, window_;  // window_ 0: none
  std::vector<Layer> layers_;
};

}  // namespace squish::model
