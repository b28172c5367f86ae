#include "squish/model/kv_cache.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "squish/kernels/half.isa.h"

namespace squish::model {
namespace {

constexpr std::size_t kTokensPerChunk = 64;

}  // namespace

KvCache::KvCache(const io::ModelConfig& config, std::size_t capacity, kernels::Element element)
    : element_(element),
      heads_(config.kv_heads),
      head_dim_(config.head_dim),
      capacity_(capacity),
      window_(config.sliding_window) {
  const std::size_t bytes = heads_ * capacity * head_dim_ * kernels::element_bytes(element);
  for (std::size_t i = 0; i < config.layers; ++i) layers_.push_back({Bytes(bytes), Bytes(bytes)});
}

std::size_t KvCache::bytes() const {
  const std::size_t read = window_ == 0 ? length_ : std::min(length_, window_);
  return read * layers_.size() * 2 * heads_ * head_dim_ * kernels::element_bytes(element_);
}

void KvCache::store(std::size_t layer, ConstMatrixView keys, ConstMatrixView values,
                    ThreadPool& pool) {
  assert(keys.rows == values.rows && length_ + keys.rows <= capacity_);
  assert(element_ != kernels::Element::bf16);
  const std::size_t head_bytes = head_dim_ * kernels::element_bytes(element_);
  const auto put = [&](std::span<const float> row, std::size_t position, Bytes& to) {
    for (std::size_t head = 0; head < heads_; ++head) {
      const float* const from = row.data() + head * head_dim_;
      std::byte* const at = to.data() + (head * capacity_ + position) * head_bytes;
      if (element_ == kernels::Element::f32) {
        std::memcpy(at, from, head_bytes);
      } else {
        kernels::half_ops().narrow(from, head_dim_, reinterpret_cast<std::uint16_t*>(at));
      }
    }
  };
  parallel_for(pool, keys.rows, kTokensPerChunk, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      put(keys.row(t), length_ + t, layers_[layer].keys);
      put(values.row(t), length_ + t, layers_[layer].values);
    }
  });
}

KvView KvCache::layer(std::size_t layer, std::size_t length) const {
  return {.element = element_,
          .keys = layers_[layer].keys.data(),
          .values = layers_[layer].values.data(),
          .capacity = capacity_,
          .length = length};
}

}  // namespace squish::model
