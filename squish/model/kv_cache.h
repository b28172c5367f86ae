#pragma once
#include <cstddef>
#include <memory>
#include <span>
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
  /// f16 takes half the memory of f32 and, where much is remembered, of the time; int8 about half
  /// of that memory.
  KvCache(const io::ModelConfig& config, std::size_t capacity, KvElement element = KvElement::f32);
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
  struct Side {
    Bytes numbers;
    AlignedVector<float> units;
  };
  struct Layer {
    Side keys, values;
    AlignedVector<float> references;
  };
  void put(std::span<const float> head, std::size_t at, Side& side, float* reference,
           bool is_first) const;

  KvElement element_;
  std::size_t heads_, head_dim_, length_ = 0, capacity_, window_;  // window_ 0: none
  std::unique_ptr<const kernels::Rotation> rotation_;              // int8 alone
  std::vector<Layer> layers_;
};

}  // namespace squish::model
