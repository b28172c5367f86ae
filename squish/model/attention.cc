#include "squish/model/attention.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <memory>

#include "squish/linalg/gemm.h"
#include "squish/linalg/vector_ops.isa.h"

namespace squish::model {
namespace {

// Queries per block: enough for sgemm to run at speed, few enough to waste little on the future.
constexpr std::size_t kBlockQueries = 128;

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

void attend_one(ConstMatrixView keys, ConstMatrixView values, const float* query, float scale,
                std::span<float> out) {
  const auto& ops = linalg::vector_ops();
  AlignedVector<float> scores(keys.rows);
  ops.matvec(keys.data, keys.rows, keys.cols, keys.stride, query, scores.data());
  const float sum = exponentiate(scores, scale);
  ops.vecmat(scores.data(), values.data, values.rows, values.cols, values.stride, out.data());
  scale_row(out, 1 / sum);
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

void attention(const io::ModelConfig& config, ConstMatrixView queries, ConstMatrixView keys,
               ConstMatrixView values, MatrixView out, ThreadPool& pool) {
  assert(queries.rows <= keys.rows && keys.rows == values.rows && out.rows == queries.rows);
  const std::size_t d = config.head_dim, group = config.heads / config.kv_heads;
  const std::size_t past = keys.rows - queries.rows;
  const std::size_t blocks = (queries.rows + kBlockQueries - 1) / kBlockQueries;
  const float scale = 1 / std::sqrt(static_cast<float>(d));

  pool.run(blocks * config.heads, [&](std::size_t chunk) {
    // The last queries see most; they go first, so that no thread is left with a long one.
    const std::size_t block = blocks - 1 - chunk / config.heads, head = chunk % config.heads;
    const std::size_t top = block * kBlockQueries;
    const std::size_t bottom = std::min(queries.rows, top + kBlockQueries);
    const std::size_t begin = first_visible(config, past + top), end = past + bottom;
    const ConstMatrixView q = head_of(queries.row_range(top, bottom), head, d);
    const ConstMatrixView k = head_of(keys.row_range(begin, end), head / group, d);
    const ConstMatrixView v = head_of(values.row_range(begin, end), head / group, d);
    const MatrixView o(&out(top, head * d), bottom - top, d, out.stride);
    if (q.rows == 1) {
      attend_one(k, v, q.data, scale, o.row(0));
    } else {
      attend_block(config, q, past + top, k, v, begin, scale, o);
    }
  });
}

}  // namespace squish::model
