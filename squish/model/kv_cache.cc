#include "squish/model/kv_cache.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "squish/kernels/half.isa.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::model {

std::size_t element_bytes(KvElement element) {
  return element == KvElement::f32 ? 4 : element == KvElement::f16 ? 2 : 1;
}

std::string to_string(KvElement element) {
  return element == KvElement::f32 ? "f32" : element == KvElement::f16 ? "f16" : "int8";
}

KvCache::KvCache(const io::ModelConfig& config, std::size_t capacity, KvElement element)
    : element_(element),
      heads_(config.kv_heads),
      head_dim_(config.head_dim),
      capacity_(capacity),
      window_(config.sliding_window) {
  const std::size_t bytes = heads_ * capacity * head_dim_ * element_bytes(element);
  const bool is_int8 = element == KvElement::int8;
  const Side side{Bytes(bytes), AlignedVector<float>(is_int8 ? heads_ * capacity : 0)};
  const std::size_t references = heads_ * kv_chunks(capacity) * head_dim_;
  layers_.assign(config.layers, {side, side, AlignedVector<float>(is_int8 ? references : 0)});
  if (!is_int8) return;
  const Bytes no_signs((head_dim_ + 7) / 8);
  rotation_ = std::make_unique<const kernels::Rotation>(no_signs, head_dim_);
}

std::size_t KvCache::bytes() const {
  const std::size_t read = window_ == 0 ? length_ : std::min(length_, window_);
  std::size_t bytes = 2 * read * head_dim_ * element_bytes(element_);
  if (element_ == KvElement::int8) {
    bytes += (2 * read + kv_chunks(read) * head_dim_) * sizeof(float);
  }
  return layers_.size() * heads_ * bytes;
}

/// `at`: of all heads' positions. `reference` (null: none) is what is not kept of the head, which
/// it becomes if that is the first one.
void KvCache::put(std::span<const float> head, std::size_t at, Side& side, float* reference,
                  bool is_first) const {
  std::byte* const to = side.numbers.data() + at * head.size() * element_bytes(element_);
  switch (element_) {
    case KvElement::f32:
      std::memcpy(to, head.data(), head.size_bytes());
      return;
    case KvElement::f16:
      kernels::half_ops().narrow(head.data(), head.size(), reinterpret_cast<std::uint16_t*>(to));
      return;
    case KvElement::int8:
      thread_local AlignedVector<float> rotated;
      rotated.assign(head.begin(), head.end());
      rotation_->hadamard.rotate(rotated, rotation_->factors);
      if (reference != nullptr) {
        if (is_first) std::ranges::copy(rotated, reference);
        linalg::vector_ops().axpy(-1, reference, rotated.size(), rotated.data());
      }
      thread_local kernels::Input rounded;
      kernels::make_input({.cols = head.size()}, rotated, false, rounded);
      std::memcpy(to, rounded.q.data(), head.size());
      side.units[at] = rounded.scale[0];
      return;
  }
}

void KvCache::store(std::size_t layer, ConstMatrixView keys, ConstMatrixView values,
                    ThreadPool& pool) {
  assert(keys.rows == values.rows && length_ + keys.rows <= capacity_);
  Layer& own = layers_[layer];
  const std::size_t end = length_ + keys.rows, first_chunk = length_ / kKvChunk;
  const auto store_chunk = [&](std::size_t chunk) {
    const std::size_t begin = chunk * kKvChunk;
    for (std::size_t p = std::max(length_, begin); p < std::min(end, begin + kKvChunk); ++p) {
      const auto key = keys.row(p - length_), value = values.row(p - length_);
      for (std::size_t head = 0; head < heads_; ++head) {
        const std::size_t at = head * capacity_ + p, from = head * head_dim_;
        const std::size_t chunk_at = (head * kv_chunks(capacity_) + chunk) * head_dim_;
        float* const reference = own.references.empty() ? nullptr : &own.references[chunk_at];
        put(key.subspan(from, head_dim_), at, own.keys, reference, p == begin);
        put(value.subspan(from, head_dim_), at, own.values, nullptr, false);
      }
    }
  };
  pool.run(kv_chunks(end) - first_chunk, [&](std::size_t i) { store_chunk(first_chunk + i); });
}

KvView KvCache::layer(std::size_t layer, std::size_t length) const {
  const auto& [keys, values, references] = layers_[layer];
  return {.element = element_,
          .keys = keys.numbers.data(),
          .values = values.numbers.data(),
          .key_units = keys.units.data(),
          .value_units = values.units.data(),
          .references = references.data(),
          .rotation = rotation_.get(),
          .capacity = capacity_,
          .length = length};
}

}  // namespace squish::model
