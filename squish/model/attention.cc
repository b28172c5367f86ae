#include "squish/model/attention.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <memory>

#include "squish/kernels/half.isa.h"
#include "squish/linalg/gemm.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::model {
namespace {

// Queries per block: enough for sgemm to run at speed, few enough to waste little on the future.
constexpr std::size_t kBlockQueries = 128;

constexpr std::size_t kRowsPerChunk = 16;
constexpr std::size_t kFewChunks = 16;  // not worth sharing out what follows them

/// Columns of the `head`-th head.
ConstMatrixView head_of(ConstMatrixView m, std::size_t head, std::size_t head_dim) {
  return {m.data + head * head_dim, m.rows, head_dim, m.stride};
}

/// The first position that the query at `position` sees.
std::size_t first_visible(const io::ModelConfig& config, std::size_t position) {
  const std::size_t window = config.sliding_window;
  return window == 0 || position + 1 <= window ? 0 : position + 1 - window;
}

/// Turns the scores of one query into weights that are still to be divided by the sum returned.
float exponentiate(std::span<float> scores, float scale) {
  const auto& ops = linalg::vector_ops();
  const float shift = scale * ops.max(scores.data(), scores.size());
  return static_cast<float>(ops.exp_sum(scores.data(), scores.size(), scale, shift, scores.data()));
}

void scale_row(std::span<float> row, float factor) {
  for (float& x : row) x *= factor;
}

/// Of the chunk that `position` is in.
const float* reference_of(const KvView& kv, std::size_t head, std::size_t position, std::size_t d) {
  return kv.references + (head * kv_chunks(kv.capacity) + position / kKvChunk) * d;
}

/// Buffers that are kept from token to token.
struct Scratch {
  AlignedVector<float> queries;  // padded to whole vectors
  AlignedVector<float> parts;    // of each head and chunk: head_dim sums, largest score, divisor
};

/// For keys and values as they are kept.
struct Loops {
  kernels::HalfOps::Multiply multiply;
  kernels::HalfOps::Combine combine;
  kernels::HalfOps::Widen widen;

  explicit Loops(KvElement element) {
    const kernels::HalfOps& ops = kernels::half_ops();
    switch (element) {
      case KvElement::f32:
        multiply = ops.f32, combine = ops.combine_f32, widen = ops.copy;
        return;
      case KvElement::f16:
        multiply = ops.f16, combine = ops.combine_f16, widen = ops.widen_f16;
        return;
      case KvElement::int8:
        multiply = ops.i8, combine = ops.combine_i8, widen = ops.widen_i8;
        return;
    }
  }
};

/// One query, by chunks of positions whose sums are put together at the end, each over the
/// exponential of its own largest score (Milakov and Gimelshein 2018, arXiv 1805.02867).
void attend_one(const io::ModelConfig& config, std::span<const float> queries, const KvView& kv,
                float scale, std::span<float> out, ThreadPool& pool) {
  const auto& ops = linalg::vector_ops();
  const Loops loops(kv.element);
  const std::size_t d = config.head_dim, group = config.heads / config.kv_heads;
  const std::size_t begin = first_visible(config, kv.length - 1);
  const std::size_t first_chunk = begin / kKvChunk, chunks = kv_chunks(kv.length) - first_chunk;
  const std::size_t part_size = d + 2;
  const std::size_t padded = (d + kernels::kBlock - 1) / kernels::kBlock * kernels::kBlock;
  const bool is_int8 = kv.element == KvElement::int8;
  thread_local Scratch kept;
  Scratch& scratch = kept;  // the caller's, in all threads
  scratch.queries.assign(config.heads * padded, 0.0f);
  scratch.parts.resize(config.heads * chunks * part_size);
  for (std::size_t h = 0; h < config.heads; ++h) {
    std::ranges::copy(queries.subspan(h * d, d), scratch.queries.data() + h * padded);
  }
  pool.run(config.kv_heads * chunks, [&](std::size_t task) {
    const std::size_t shared = task / chunks, chunk = task % chunks;
    const std::size_t start = (first_chunk + chunk) * kKvChunk, first = std::max(begin, start);
    const std::size_t n = std::min(kv.length, start + kKvChunk) - first;
    const std::size_t position = shared * kv.capacity + first;
    const std::size_t at = position * d * element_bytes(kv.element);
    for (std::size_t h = shared * group; h < (shared + 1) * group; ++h) {
      float scores[kKvChunk];
      const float* const query = scratch.queries.data() + h * padded;
      float* const part = scratch.parts.data() + (h * chunks + chunk) * part_size;
      loops.multiply(kv.keys + at, d, query, 0, n, scores);
      if (is_int8) {
        const float offset = ops.dot(reference_of(kv, shared, start, d), query, d);
        for (std::size_t i = 0; i < n; ++i) {
          scores[i] = scores[i] * kv.key_units[position + i] + offset;
        }
      }
      part[d] = scale * ops.max(scores, n);
      part[d + 1] = static_cast<float>(ops.exp_sum(scores, n, scale, part[d], scores));
      if (is_int8) ops.scale(kv.value_units + position, n, scores);
      loops.combine(kv.values + at, n, d, scores, part);
    }
  });
  const auto put_together = [&](std::size_t h) {
    const float* const parts = scratch.parts.data() + h * chunks * part_size;
    const std::span<float> own = out.subspan(h * d, d);
    float largest = parts[d], sum = 0;
    for (std::size_t c = 1; c < chunks; ++c) largest = std::max(largest, parts[c * part_size + d]);
    std::ranges::fill(own, 0.0f);
    for (std::size_t c = 0; c < chunks; ++c) {
      const float* const part = parts + c * part_size;
      const float factor = std::exp(part[d] - largest);
      sum += factor * part[d + 1];
      ops.axpy(factor, part, d, own.data());
    }
    scale_row(own, 1 / sum);
  };
  if (chunks > kFewChunks) return pool.run(config.heads, put_together);
  for (std::size_t h = 0; h < config.heads; ++h) put_together(h);
}

enum class Of { keys, values };
/// Positions [begin, end) of one head, as floats.
ConstMatrixView positions(const KvView& kv, Of of, std::size_t head, std::size_t begin,
                          std::size_t end, std::size_t d, AlignedVector<float>& storage) {
  const std::size_t first = head * kv.capacity + begin, n = end - begin;
  const std::byte* const at =
      (of == Of::keys ? kv.keys : kv.values) + first * d * element_bytes(kv.element);
  if (kv.element == KvElement::f32) return {reinterpret_cast<const float*>(at), n, d};
  storage.resize(std::max(storage.size(), n * d));
  Loops(kv.element).widen(at, n * d, storage.data());
  const MatrixView rows(storage.data(), n, d);
  for (std::size_t i = 0; kv.element == KvElement::int8 && i < n; ++i) {
    scale_row(rows.row(i), (of == Of::keys ? kv.key_units : kv.value_units)[first + i]);
    if (of == Of::values) continue;
    const float* const reference = reference_of(kv, head, begin + i, d);
    linalg::vector_ops().axpy(1, reference, d, rows.row(i).data());
  }
  return rows;
}

/// Queries at positions first, first + 1, ...; keys and values from position `begin` on.
void attend_block(const io::ModelConfig& config, ConstMatrixView queries, std::size_t first,
                  ConstMatrixView keys, ConstMatrixView values, std::size_t begin, float scale,
                  MatrixView out) {
  const auto storage = std::make_unique_for_overwrite<float[]>(queries.rows * keys.rows);
  const MatrixView scores(storage.get(), queries.rows, keys.rows);
  linalg::gemm_nt(queries, keys, scores);
  AlignedVector<float> sums(queries.rows);
  for (std::size_t i = 0; i < queries.rows; ++i) {
    const std::size_t from = first_visible(config, first + i) - begin;
    const std::size_t to = first + i + 1 - begin;
    const auto row = scores.row(i);
    sums[i] = exponentiate(row.subspan(from, to - from), scale);
    std::fill(row.begin(), row.begin() + from, 0.0f);
    std::fill(row.begin() + to, row.end(), 0.0f);
  }
  linalg::gemm_nn(scores, values, out);
  for (std::size_t i = 0; i < out.rows; ++i) scale_row(out.row(i), 1 / sums[i]);
}

/// attention() as if heads were not rotated.
void attend(const io::ModelConfig& config, ConstMatrixView queries, const KvView& kv,
            MatrixView out, ThreadPool& pool) {
  assert(queries.rows <= kv.length && out.rows == queries.rows);
  const std::size_t d = config.head_dim, group = config.heads / config.kv_heads;
  const std::size_t past = kv.length - queries.rows;
  const std::size_t blocks = (queries.rows + kBlockQueries - 1) / kBlockQueries;
  const float scale = 1 / std::sqrt(static_cast<float>(d));
  if (queries.rows == 1) return attend_one(config, queries.row(0), kv, scale, out.row(0), pool);

  pool.run(blocks * config.heads, [&](std::size_t chunk) {
    // The last queries see most; they go first, so that no thread is left with a long one.
    const std::size_t block = blocks - 1 - chunk / config.heads, head = chunk % config.heads;
    const std::size_t top = block * kBlockQueries;
    const std::size_t bottom = std::min(queries.rows, top + kBlockQueries);
    const std::size_t begin = first_visible(config, past + top), end = past + bottom;
    const ConstMatrixView q = head_of(queries.row_range(top, bottom), head, d);
    thread_local AlignedVector<float> key_storage, value_storage;
    const auto k = positions(kv, Of::keys, head / group, begin, end, d, key_storage);
    const auto v = positions(kv, Of::values, head / group, begin, end, d, value_storage);
    const MatrixView o(&out(top, head * d), bottom - top, d, out.stride);
    attend_block(config, q, past + top, k, v, begin, scale, o);
  });
}

}  // namespace

void attention(const io::ModelConfig& config, ConstMatrixView queries, const KvView& kv,
               MatrixView out, ThreadPool& pool) {
  if (kv.rotation == nullptr) return attend(config, queries, kv, out, pool);
  // Products of keys and queries are what they were if both are rotated; sums of values are rotated
  // as these are.
  const auto each_head = [&](MatrixView m, const auto& body) {
    parallel_for(pool, m.rows, kRowsPerChunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t t = begin; t < end; ++t) {
        for (std::size_t h = 0; h < config.heads; ++h) {
          body(m.row(t).subspan(h * config.head_dim, config.head_dim));
        }
      }
    });
  };
  const auto& [hadamard, factors] = *kv.rotation;
  thread_local AlignedVector<float> storage;  // kept from token to token
  storage.resize(queries.rows * queries.cols);
  const MatrixView rotated(storage.data(), queries.rows, queries.cols);
  copy_rows(queries, rotated);
  each_head(rotated, [&](std::span<float> head) { hadamard.rotate(head, factors); });
  attend(config, rotated, kv, out, pool);
  each_head(out, [&](std::span<float> head) { hadamard.unrotate(head, factors); });
}

}  // namespace squish::model
