// VPTQ: vector post-training quantisation (Liu et al. 2024, arXiv 2409.17066).
// v consecutive weights of one column are a vector, coded as a main centroid plus a residual
// centroid and multiplied by the scale of their column.
//
// Stored, per matrix:
//   q         for each block of v rows, starting on a byte: one code a column, main index in the
//             low log2 k bits, residual index above, LSB first
//   scale     one f32 a column
//   codebook  k main, then r residual centroids of v components, f16; no residual where r = 1
// Where v does not divide the rows, the last block is coded by the rows that exist.
//
// As published: vectors along the outputs, k-means for the main codebook and again for what it
// leaves, one code word of both indices. It departs from the authors' code in these points:
//   - a column's scale is its root mean square, refitted if refine > 0, with no offset; theirs (the
//     branch `algorithm`) is max - min, with the minimum as an offset, which one outlier spoils;
//   - k-means++ instead of random seeds, vectors weighted by their column's scale squared (the
//     error in W, which H' = diag(s) H diag(s) amounts to), dead centroids re-seeded,
//     20 iterations of Lloyd's where theirs are up to 100;
//   - of a large matrix a sample of vectors is trained on;
//   - refine > 0: main and residual are searched jointly and both codebooks and the scales
//     re-fitted by least squares, in turn. That costs no bits. refine=0 codes greedily
//     and refits nothing, but departs in the points above.
// With calibration, as published: centroids weighted by H_jj, then column by column with the error
// fed into the columns still to be coded. The error counts as it is in W, whatever a column's scale
// (the authors' code feeds back errors in units of the scales). Further passes refit codebooks and
// scales to what the columns were when they were coded, under the weights D_jj that the loss has in
// these (H = L D L'), and code all again; the pass of least loss is kept. Then sweeps of coordinate
// descent code each column as is best given all others.
// Outlier columns and several codebooks a matrix are not built yet.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/quant/feedback.h"
#include "squish/quant/moments.h"
#include "squish/quant/registry.h"
#include "squish/quant/vptq_layout.h"

namespace squish::quant {
namespace {

// Main centroids that are tried with every residual, where k * r is too large to try all pairs.
constexpr std::size_t kBeam = 8;
constexpr double kTolerance = 0.003;  // relative gain below which the refinement stops

using Layout = VptqLayout;

void check(const Spec& spec) {
  for (const char* key : {"k", "r"}) {
    if (!std::has_single_bit(static_cast<std::uint64_t>(spec.integer(key)))) {
      fail_usage("spec '{}': {}={}, expected a power of two", spec.asked(), key, spec.integer(key));
    }
  }
}

std::shared_ptr<const Prepared> prepare(const InputMoments& moments, const Spec& spec,
                                        const PrepareContext& /*context*/) {
  return prepare_columns(moments.second, spec.real("damp"), spec.word("order") == "act",
                         spec.integer("sweeps") > 0);
}

/// Codes some rows of a column; `out` becomes what they are coded as.
void code_column(const CodeSearch& search, const Layout& layout, std::size_t first_row,
                 std::size_t col, bool restart, ConstMatrixView target, AdditiveCode& code,
                 MatrixView out) {
  const std::size_t dim = layout.dim, books = code.books.size();
  const std::size_t vectors = (target.rows + dim - 1) / dim;
  const float scale = code.scales[col];
  VectorSet set;
  set.dim = dim;
  set.short_dim = target.rows % dim;
  set.short_begin = target.rows / dim;
  set.values.resize(vectors * dim);
  set.weights.resize(vectors);
  for (std::size_t i = 0; i < target.rows; ++i) {
    set.values[i] = scale > 0 ? target(i, 0) / scale : 0.0f;
  }
  const auto codes = [&](std::size_t v) {
    return code.codes.begin() + ((first_row / dim + v) * layout.cols + col) * books;
  };
  Codes found(vectors * books);
  for (std::size_t v = 0; v < vectors; ++v) {
    std::copy_n(codes(v), books, found.begin() + v * books);
  }
  search.search(set, 0, vectors, restart, found);
  for (std::size_t v = 0; v < vectors; ++v) {
    std::copy_n(found.begin() + v * books, books, codes(v));
    for (std::size_t d = 0; d < set.width(v); ++d) {
      float sum = 0;
      for (std::size_t m = 0; m < books; ++m) sum += code.books[m][found[v * books + m]][d];
      out(v * dim + d, 0) = scale * sum;
    }
  }
}

/// Sweeps of coordinate descent over the columns: each is coded again, the best given the others.
void descend_columns(ConstMatrixView weights, const Layout& layout, const Descent& descent,
                     std::size_t beam, std::int64_t sweeps, AdditiveCode& code, ThreadPool& pool) {
  const std::size_t dim = layout.dim, books = code.books.size();
  const CodeSearch search(code.books, dim, layout.rows % dim, beam);
  Matrix rounded(layout.rows, layout.cols);
  for (std::size_t i = 0; i < layout.rows; ++i) {
    for (std::size_t j = 0; j < layout.cols; ++j) {
      const auto codes = code.codes.begin() + (i / dim * layout.cols + j) * books;
      float sum = 0;
      for (std::size_t m = 0; m < books; ++m) sum += code.books[m][codes[m]][i % dim];
      rounded(i, j) = code.scales[j] * sum;
    }
  }
  BlockRounding rounding;
  rounding.row_multiple = dim;
  rounding.round = [&](std::size_t first_row, std::size_t col, ConstMatrixView target,
                       MatrixView out) {
    code_column(search, layout, first_row, col, false, target, code, out);
  };
  for (std::int64_t sweep = 0; sweep < sweeps; ++sweep) {
    descend(weights, descent, rounding, rounded, pool);
  }
}

/// Codes the columns in the order of the feedback's factor, from the last to the first, with the
/// books and scales as they are. `targets` become the columns as they were when they were coded.
/// Returns the loss tr((W - What) (H + damping) (W - What)').
double code_columns(ConstMatrixView weights, const Layout& layout, const Factor& factor,
                    std::size_t beam, AdditiveCode& code, Matrix& targets, ThreadPool& pool) {
  const std::size_t dim = layout.dim;
  const CodeSearch search(code.books, dim, layout.rows % dim, beam);
  Matrix rounded(layout.rows, layout.cols);
  BlockRounding rounding;
  rounding.row_multiple = dim;
  rounding.round = [&](std::size_t first_row, std::size_t col, ConstMatrixView target,
                       MatrixView out) {
    for (std::size_t i = 0; i < target.rows; ++i) targets(first_row + i, col) = target(i, 0);
    code_column(search, layout, first_row, col, true, target, code, out);
  };
  ldlq(weights, factor, rounding, rounded, pool);
  std::vector<double> losses(layout.rows);
  parallel_for(pool, layout.rows, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t j = 0; j < layout.cols; ++j) {
        const double error = double{targets(i, j)} - rounded(i, j);
        losses[i] += factor.pivot[j] * error * error;
      }
    }
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

/// Columns of `from` in the order given.
template <class T>
std::vector<T> reordered(const std::vector<T>& from, const std::vector<std::uint32_t>& order) {
  std::vector<T> to;
  for (const std::uint32_t j : order) to.push_back(from[j]);
  return to;
}

AdditiveCode encode_with_feedback(ConstMatrixView weights, const Layout& layout,
                                  AdditiveOptions options, const ColumnFeedback& feedback,
                                  std::int64_t sweeps, const EncodeContext& context) {
  const Factor& factor = feedback.factor;
  std::vector<std::uint32_t> order = feedback.order;  // as the factor has the columns
  if (order.empty()) {
    order.resize(layout.cols);
    std::iota(order.begin(), order.end(), 0u);
  }
  Matrix ordered(layout.rows, layout.cols);
  for (std::size_t i = 0; i < layout.rows; ++i) {
    for (std::size_t j = 0; j < layout.cols; ++j) ordered(i, j) = weights(i, order[j]);
  }
  if (!feedback.weights.empty()) options.importance = reordered(feedback.weights, order);
  AdditiveCode code = additive_encode(ordered, layout, options, context), best;
  for (Codebook& book : code.books) {  // entries that are zero because there are few vectors
    book.size = std::min(book.size, std::max<std::size_t>(1, layout.size()));
    book.values.resize(book.size * book.dim);
  }

  std::vector<float> pivots;
  const double mean = std::accumulate(factor.pivot.begin(), factor.pivot.end(), 0.0) /
                      static_cast<double>(layout.cols);
  for (const double pivot : factor.pivot) pivots.push_back(static_cast<float>(pivot / mean));
  Matrix targets(layout.rows, layout.cols);
  double least = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass <= options.rounds; ++pass) {
    const double loss =
        code_columns(ordered, layout, factor, options.beam, code, targets, context.pool);
    const bool enough = !(loss < least * (1 - options.tolerance));
    if (loss < least) best = code;
    least = std::min(least, loss);
    if (enough || pass == options.rounds) break;
    const VectorSet set = normalise(targets, layout, code.scales, pivots, context.pool);
    refit_codebooks(set, code.books, code.codes, context.pool);
    round_codebooks(code.books);
    refit_scales(set, code.books, code.codes, code.scales, context.pool);
  }

  const std::size_t books = best.books.size();
  code = best;
  for (std::size_t j = 0; j < layout.cols; ++j) {
    code.scales[order[j]] = best.scales[j];
    for (std::size_t block = 0; block < layout.blocks(); ++block) {
      std::copy_n(best.codes.begin() + (block * layout.cols + j) * books, books,
                  code.codes.begin() + (block * layout.cols + order[j]) * books);
    }
  }
  if (feedback.descent.coupling.size() != 0) {
    descend_columns(weights, layout, feedback.descent, options.beam, sweeps, code, context.pool);
  }
  for (std::size_t m = 0; m < books; ++m) {
    code.books[m].size = options.sizes[m];
    code.books[m].values.resize(options.sizes[m] * layout.dim);
  }
  return code;
}

Packed encode(ConstMatrixView weights, const Spec& spec, const EncodeContext& context) {
  const Layout layout(spec, weights.rows, weights.cols);
  AdditiveOptions options;
  options.sizes = {layout.main};
  if (layout.residual > 1) options.sizes.push_back(layout.residual);
  options.iterations = static_cast<int>(spec.integer("iters"));
  options.rounds = static_cast<int>(spec.integer("refine"));
  options.beam = options.rounds > 0 ? kBeam : 1;
  options.tolerance = kTolerance;
  const AdditiveCode code = context.prepared == nullptr
                                ? additive_encode(weights, layout, options, context)
                                : encode_with_feedback(weights, layout, options,
                                                       prepared_as<ColumnFeedback>(context, spec),
                                                       spec.integer("sweeps"), context);

  const std::size_t books = options.sizes.size();
  Bytes q(layout.blocks() * layout.block_bytes()), scale(4 * layout.cols);
  parallel_for(context.pool, layout.blocks(), 16, [&](std::size_t begin, std::size_t end) {
    std::vector<std::uint32_t> fields(layout.cols);
    for (std::size_t block = begin; block < end; ++block) {
      for (std::size_t j = 0; j < layout.cols; ++j) {
        const std::uint32_t* codes = code.codes.data() + (block * layout.cols + j) * books;
        fields[j] = codes[0] | (books > 1 ? codes[1] << layout.main_bits : 0);
      }
      const Bytes packed = pack_bits(fields, layout.code_bits());
      std::memcpy(q.data() + block * layout.block_bytes(), packed.data(), packed.size());
    }
  });
  std::memcpy(scale.data(), code.scales.data(), scale.size());

  Packed packed{spec, layout.rows, layout.cols, {}};
  packed.sections.push_back({"q", Part::indices, std::move(q)});
  packed.sections.push_back({"scale", Part::scales, std::move(scale)});
  packed.sections.push_back({"codebook", Part::codebooks, pack_codebooks(code.books)});
  return packed;
}

void decode(const Packed& packed, MatrixView out, ThreadPool& pool) {
  const Layout layout(packed.spec, packed.rows, packed.cols);
  const Bytes& q = packed.section("q", layout.blocks() * layout.block_bytes());
  const Bytes& scale = packed.section("scale", 4 * layout.cols);
  const Bytes& books = packed.section("codebook", layout.book_bytes());
  const Codebook main = unpack_codebook(books, 0, layout.dim, layout.main);
  const Codebook residual =
      layout.residual > 1
          ? unpack_codebook(books, 2 * layout.dim * layout.main, layout.dim, layout.residual)
          : Codebook(layout.dim, 1);
  std::vector<float> scales(layout.cols);
  std::memcpy(scales.data(), scale.data(), scale.size());

  const std::uint32_t main_mask = static_cast<std::uint32_t>(layout.main - 1);
  parallel_for(pool, layout.blocks(), 16, [&](std::size_t begin, std::size_t end) {
    std::vector<std::uint32_t> fields(layout.cols);
    for (std::size_t block = begin; block < end; ++block) {
      unpack_bits({q.data() + block * layout.block_bytes(), layout.block_bytes()},
                  layout.code_bits(), fields);
      const std::size_t first = block * layout.dim;
      for (std::size_t d = 0; d < std::min(layout.dim, layout.rows - first); ++d) {
        const std::span<float> row = out.row(first + d);
        for (std::size_t j = 0; j < layout.cols; ++j) {
          const float sum =
              main[fields[j] & main_mask][d] + residual[fields[j] >> layout.main_bits][d];
          row[j] = scales[j] * sum;
        }
      }
    }
  });
}

double nominal_bpw(const Spec& spec, std::size_t rows, std::size_t cols) {
  const Layout layout(spec, rows, cols);
  return layout.code_bits() / static_cast<double>(layout.dim) + 32.0 / static_cast<double>(rows);
}

}  // namespace

Method vptq_method() {
  return {
      .name = "vptq",
      .summary = "learned vectors down a column, main and residual codebook, a scale per column",
      .source = "VPTQ (arXiv 2409.17066)",
      .keys = {integer_key("v", 8, 1, 16, "vector length, along the outputs"),
               integer_key("k", 256, 2, 65536, "main centroids, a power of two"),
               integer_key("r", 16, 1, 65536, "residual centroids, a power of two; 1: none"),
               integer_key("iters", 20, 1, 1000, "iterations of Lloyd's algorithm"),
               integer_key("refine", 10, 0, 1000,
                           "most alternations of joint coding and least squares; 0: main and "
                           "residual coded greedily, not refitted"),
               choice_key("order", {"act", "none"},
                          "calibrated: columns of most energy first, or as they come"),
               real_key("damp", "0.01", 0, 10,
                        "calibrated: added to H's diagonal, relative to its mean"),
               integer_key("sweeps", 3, 0, 1000,
                           "calibrated: sweeps of coordinate descent over the columns at the end")},
      .check = check,
      .nominal_bpw = nominal_bpw,
      .prepare = prepare,
      .prepare_keys = {"damp", "order", "sweeps"},
      .encode = encode,
      .memory = {.weights = 3.3, .hessians = 2.7},
      .decode = decode,
  };
}

}  // namespace squish::quant
