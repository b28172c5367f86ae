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

/// Positions that a task of a single query takes: few enough that a head's keys stay in the
/// first-level cache for all queries that share them.
constexpr std::size_t kChunk = 64;
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

/// Buffers that are kept from token to token.
struct Scratch {
  AlignedVector<float> queries;  // padded to whole vectors
  AlignedVector<float> parts;    // of each head and chunk: head_dim sums, largest score, divisor
};

/// One query, by chunks of positions whose sums are put together at the end, each over the
/// exponential of its own largest score (Milakov and Gimelshein 2018, arXiv 1805.02867).
void attend_one(const io::ModelConfig& config, std::span<const float> queries, const KvView& kv,
                float scale, std::span<float> out, ThreadPool& pool) {
  const auto& ops = linalg::vector_ops();
  const kernels::HalfOps& half = kernels::half_ops();
  const bool is_f32 = kv.element == kernels::Element::f32;
  const std::size_t d = config.head_dim, group = config.heads / config.kv_heads;
  const std::size_t begin = first_visible(config, kv.length - 1);
  const std::size_t chunks = (kv.length - begin + kChunk - 1) / kChunk, part_size = d + 2;
  const std::size_t padded = (d + kernels::kBlock - 1) / kernels::kBlock * kernels::kBlock;
  thread_local Scratch kept;
  Scratch& scratch = kept;  // the caller's, in all threads
  scratch.queries.assign(config.heads * padded, 0.0f);
  scratch.parts.resize(config.heads * chunks * part_size);
  for (std::size_t h = 0; h < config.heads; ++h) {
    std::ranges::copy(queries.subspan(h * d, d), scratch.queries.data() + h * padded);
  }
  pool.run(config.kv_heads * chunks, [&](std::size_t task) {
    const std::size_t shared = task / chunks, chunk = task % chunks;
    const std::size_t first = begin + chunk * kChunk, n = std::min(kv.length - first, kChunk);
    const std::size_t at = (shared * kv.capacity + first) * d * kernels::element_bytes(kv.element);
    for (std::size_t h = shared * group; h < (shared + 1) * group; ++h) {
      float scores[kChunk];
      float* const part = scratch.parts.data() + (h * chunks + chunk) * part_size;
      (is_f32 ? half.f32 : half.f16)(kv.keys + at, d, scratch.queries.data() + h * padded, 0, n,
                                     scores);
      part[d] = scale * ops.max(scores, n);
      part[d + 1] = static_cast<float>(ops.exp_sum(scores, n, scale, part[d], scores));
      (is_f32 ? half.combine_f32 : half.combine_f16)(kv.values + at, n, d, scores, part);
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

/// Positions [begin, end) of one head, as floats.
ConstMatrixView positions(const KvView& kv, const std::byte* values, std::size_t head,
                          std::size_t begin, std::size_t end, std::size_t d,
                          AlignedVector<float>& storage) {
  const std::size_t at = (head * kv.capacity + begin) * d, n = end - begin;
  if (kv.element == kernels::Element::f32) {
    return {reinterpret_cast<const float*>(values) + at, n, d};
  }
  storage.resize(std::max(storage.size(), n * d));
  kernels::half_ops().widen_f16(values + 2 * at, n * d, storage.data());
  return {storage.data(), n, d};
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

}  // namespace

void attention(const io::ModelConfig& config, ConstMatrixView queries, const KvView& kv,
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
    const auto k = positions(kv, kv.keys, head / group, begin, end, d, key_storage);
    const auto v = positions(kv, kv.values, head / group, begin, end, d, value_storage);
    const MatrixView o(&out(top, head * d), bottom - top, d, out.stride);
    attend_block(config, q, past + top, k, v, begin, scale, o);
  });
}

}  // namespace squish::model
