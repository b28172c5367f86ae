// VPTQ: vector post-training quantisation (Liu et al. 2024, arXiv 2409.17066).
// v consecutive weights of one column are a vector, coded as a main centroid plus a residual
// centroid and multiplied by the scale of their column. Columns are one part of the matrix or
// several, each with codebooks of its own: outlier columns (of their own length of vectors, without
// a residual) and groups.
//
// Stored, per matrix:
//   q         part after part, for each block of v rows, starting on a byte: one code a column,
//   main
//             index in the low log2 k bits, residual index above, LSB first
//   scale     one f32 a column
//   columns   the number of each column's part, of as few bits as hold it; only where there are
//             several
//   codebook  part after part, k main, then r residual centroids of v components, f16; no residual
//             where r = 1
// Where v does not divide the rows, the last block is coded by the rows that exist.
//
// As published: vectors along the outputs, k-means for the main codebook and again for what it
// leaves, one code word of both indices; with calibration the columns of largest H_jj are the
// outliers, and groups are runs of columns in that order (without it: by their energy in W). It
// departs from the authors' code in these points:
//   - a column's scale is its root mean square, refitted if refine > 0, with no offset; theirs (the
//     branch `algorithm`) is max - min, with the minimum as an offset, which one outlier spoils;
//   - k-means++ instead of random seeds, vectors weighted by their column's scale squared (the
//     error in W, which H' = diag(s) H diag(s) amounts to), dead centroids re-seeded,
//     20 iterations of Lloyd's where theirs are up to 100;
//   - of a large matrix a sample of vectors is trained on;
//   - refine > 0: main and residual are searched jointly and both codebooks and the scales
//     re-fitted by least squares, in turn. That costs no bits. refine=0 codes greedily
//     and refits nothing, but departs in the points above;
//   - groups differ by a column in width where theirs add the remainder to the outliers, and what
//     says which columns they hold takes log2 of the parts a column where theirs take 16 bits.
// With calibration, as published: centroids weighted by H_jj, then column by column with the error
// fed into the columns still to be coded. The error counts as it is in W, whatever a column's scale
// (the authors' code feeds back errors in units of the scales). Further passes refit codebooks and
// scales to what the columns were when they were coded, under the weights D_jj that the loss has in
// these (H = L D L'), and code all again; the pass of least loss is kept. Then sweeps of coordinate
// descent code each column as is best given all others.
#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <numeric>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/quant/feedback.h"
#include "squish/quant/moments.h"
#include "squish/quant/registry.h"
#include "squish/quant/shared_codebooks.h"
#include "squish/quant/vptq_layout.h"

namespace squish::quant {
namespace {

// Main centroids that are tried with every residual, where k * r is too large to try all pairs.
constexpr std::size_t kBeam = 8;
constexpr double kTolerance = 0.003;  // relative gain below which the refinement stops

void check(const Spec& spec) {
  for (const char* key : {"k", "r", "ok"}) {
    if (!std::has_single_bit(static_cast<std::uint64_t>(spec.integer(key)))) {
      fail_usage("spec '{}': {}={}, expected a power of two", spec.asked(), key, spec.integer(key));
    }
  }
  if (spec.word("share") != "none" && (spec.integer("groups") > 1 || spec.real("outliers") > 0)) {
    fail_usage("spec '{}': share={}, expected neither groups nor outliers with it", spec.asked(),
               spec.word("share"));
  }
}

AdditiveOptions options_of(const Spec& spec, const VptqPart& part) {
  AdditiveOptions options;
  options.sizes = part.sizes();
  options.iterations = static_cast<int>(spec.integer("iters"));
  options.rounds = static_cast<int>(spec.integer("refine"));
  options.beam = options.rounds > 0 ? kBeam : 1;
  options.tolerance = kTolerance;
  return options;
}

AdditiveForm additive(const Spec& spec, std::size_t rows, std::size_t cols) {
  const VptqPart part = VptqLayout(spec, rows, cols).parts.front();
  return {part, options_of(spec, part)};
}

using Columns = std::vector<std::uint32_t>;

/// Columns of one part, and what they are coded as.
struct Coded {
  const VptqPart& layout;
  Columns columns;  // of the matrix
  AdditiveOptions options;
  AdditiveCode code;
};

/// Where a column of the matrix is.
struct Place {
  std::uint32_t part, at;
};

std::vector<Place> places_of(const std::vector<Coded>& parts, std::size_t cols) {
  std::vector<Place> places(cols);
  for (std::uint32_t p = 0; p < parts.size(); ++p) {
    for (std::uint32_t at = 0; at < parts[p].columns.size(); ++at) {
      places[parts[p].columns[at]] = {p, at};
    }
  }
  return places;
}

/// `energy` of each column; those of most go into the first part, and so on. Parts hold their
/// columns in ascending order.
std::vector<Coded> cut_into_parts(const Spec& spec, const VptqLayout& layout,
                                  std::span<const float> energy) {
  Columns columns(layout.cols);
  std::iota(columns.begin(), columns.end(), 0u);
  if (layout.parts.size() > 1) {
    std::ranges::stable_sort(columns, std::greater(), [&](std::uint32_t j) { return energy[j]; });
  }
  std::vector<Coded> parts;
  auto from = columns.begin();
  for (const VptqPart& part : layout.parts) {
    const auto to = from + static_cast<std::ptrdiff_t>(part.cols);
    std::sort(from, to);
    parts.push_back({part, {from, to}, options_of(spec, part), {}});
    from = to;
  }
  return parts;
}

Matrix gather(ConstMatrixView weights, const Columns& columns) {
  Matrix out(weights.rows, columns.size());
  for (std::size_t i = 0; i < weights.rows; ++i) {
    for (std::size_t j = 0; j < columns.size(); ++j) out(i, j) = weights(i, columns[j]);
  }
  return out;
}

template <class T>
std::vector<T> gather(const std::vector<T>& from, const Columns& columns) {
  std::vector<T> to;
  for (const std::uint32_t j : columns) to.push_back(from[j]);
  return to;
}

/// Each part by itself.
void encode_parts(ConstMatrixView weights, std::vector<Coded>& parts,
                  const EncodeContext& context) {
  for (std::size_t p = 0; p < parts.size(); ++p) {
    Coded& part = parts[p];
    if (parts.size() == 1) {
      part.code = additive_encode(weights, part.layout, part.options, context);
    } else {
      const std::string key = fmt::format("{}/part/{}", context.key, p);
      EncodeContext own{context.pool, context.seed, key};
      part.code = additive_encode(gather(weights, part.columns), part.layout, part.options, own);
    }
  }
}

float decoded(const Coded& part, std::size_t row, std::size_t at) {
  const std::size_t books = part.code.books.size(), dim = part.layout.dim;
  const auto codes = part.code.codes.begin() +
                     static_cast<std::ptrdiff_t>((row / dim * part.layout.cols + at) * books);
  float sum = 0;
  for (std::size_t m = 0; m < books; ++m) sum += part.code.books[m][codes[m]][row % dim];
  return part.code.scales[at] * sum;
}

/// Codes columns one at a time, with books and scales as they are.
class ColumnCoder {
 public:
  ColumnCoder(std::vector<Coded>& parts, std::size_t rows, std::size_t cols)
      : parts_(parts), places_(places_of(parts, cols)) {
    for (const Coded& part : parts) {
      const std::size_t dim = part.layout.dim;
      searches_.emplace_back(part.code.books, dim, rows % dim, part.options.beam);
      row_multiple_ = std::lcm(row_multiple_, dim);
    }
  }

  /// Runs of rows begin at its multiples.
  std::size_t row_multiple() const { return row_multiple_; }

  /// Codes some rows of a column; `out` becomes what they are coded as.
  void code(std::size_t first_row, std::size_t col, bool restart, ConstMatrixView target,
            MatrixView out) const {
    const auto [p, at] = places_[col];
    Coded& part = parts_[p];
    AdditiveCode& code = part.code;
    const std::size_t dim = part.layout.dim, books = code.books.size();
    const std::size_t vectors = (target.rows + dim - 1) / dim;
    const float scale = code.scales[at];
    VectorSet set;
    set.dim = dim;
    set.short_dim = target.rows % dim;
    set.short_begin = target.rows / dim;
    set.values.resize(vectors * dim);
    set.weights.resize(vectors);
    for (std::size_t i = 0; i < target.rows; ++i) {
      set.values[i] = scale > 0 ? target(i, 0) / scale : 0.0f;
    }
    const auto codes = [&, at = at](std::size_t v) {
      return code.codes.begin() + ((first_row / dim + v) * part.layout.cols + at) * books;
    };
    Codes found(vectors * books);
    for (std::size_t v = 0; v < vectors; ++v) {
      std::copy_n(codes(v), books, found.begin() + v * books);
    }
    searches_[p].search(set, 0, vectors, restart, found);
    for (std::size_t v = 0; v < vectors; ++v) {
      std::copy_n(found.begin() + v * books, books, codes(v));
      for (std::size_t d = 0; d < set.width(v); ++d) {
        float sum = 0;
        for (std::size_t m = 0; m < books; ++m) sum += code.books[m][found[v * books + m]][d];
        out(v * dim + d, 0) = scale * sum;
      }
    }
  }

 private:
  std::vector<Coded>& parts_;
  std::vector<Place> places_;
  std::deque<CodeSearch> searches_;  // cannot be moved
  std::size_t row_multiple_ = 1;
};

/// Each rank's codes for its own rows, to all.
void merge_codes(const RowRuns& runs, std::size_t rows, std::vector<Coded>& parts) {
  for (Coded& part : parts) runs.merge(rows, std::span(part.code.codes), part.layout.dim);
}

/// Sweeps of coordinate descent over the columns: each is coded again, the best given the others.
void descend_columns(ConstMatrixView weights, const Descent& descent, std::int64_t sweeps,
                     std::vector<Coded>& parts, const EncodeContext& context) {
  const ColumnCoder coder(parts, weights.rows, weights.cols);
  const std::vector<Place> places = places_of(parts, weights.cols);
  Matrix rounded(weights.rows, weights.cols);
  for (std::size_t i = 0; i < weights.rows; ++i) {
    for (std::size_t j = 0; j < weights.cols; ++j) {
      rounded(i, j) = decoded(parts[places[j].part], i, places[j].at);
    }
  }
  BlockRounding rounding;
  rounding.runs = {coder.row_multiple(), context.team};
  rounding.round = [&](std::size_t first_row, std::size_t col, ConstMatrixView target,
                       MatrixView out) { coder.code(first_row, col, false, target, out); };
  for (std::int64_t sweep = 0; sweep < sweeps; ++sweep) {
    descend(weights, descent, rounding, rounded, context.pool);
  }
  merge_codes(rounding.runs, weights.rows, parts);
}

/// Codes the columns in the order of the feedback's factor, from the last to the first. `targets`
/// become the columns as they were when they were coded. Returns the loss
/// tr((W - What) (H + damping) (W - What)').
double code_columns(ConstMatrixView weights, const Factor& factor, std::vector<Coded>& parts,
                    Matrix& targets, const EncodeContext& context) {
  const ColumnCoder coder(parts, weights.rows, weights.cols);
  Matrix rounded(weights.rows, weights.cols);
  BlockRounding rounding;
  rounding.runs = {coder.row_multiple(), context.team};
  rounding.round = [&](std::size_t first_row, std::size_t col, ConstMatrixView target,
                       MatrixView out) {
    for (std::size_t i = 0; i < target.rows; ++i) targets(first_row + i, col) = target(i, 0);
    coder.code(first_row, col, true, target, out);
  };
  ldlq(weights, factor, rounding, rounded, context.pool);
  std::vector<double> losses(weights.rows);
  rounding.runs.for_own(weights.rows, context.pool, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t j = 0; j < weights.cols; ++j) {
        const double error = double{targets(i, j)} - rounded(i, j);
        losses[i] += factor.pivot[j] * error * error;
      }
    }
  });
  merge_codes(rounding.runs, weights.rows, parts);
  rounding.runs.merge(weights.rows, std::span(targets.data(), targets.size()));
  rounding.runs.merge(weights.rows, std::span(losses));
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

/// Codebooks and scales that fit best to the targets that the codes were found for.
void refit(const Matrix& targets, const std::vector<float>& pivots, Coded& part, bool is_only,
           ThreadPool& pool) {
  AdditiveCode& code = part.code;
  const VectorSet set = is_only ? normalise(targets, part.layout, code.scales, pivots, pool)
                                : normalise(gather(targets, part.columns), part.layout, code.scales,
                                            gather(pivots, part.columns), pool);
  if (part.options.books.empty()) {
    refit_codebooks(set, code.books, code.codes, pool);
    round_codebooks(code.books);
  }
  refit_scales(set, code.books, code.codes, code.scales, pool);
}

/// The part with its columns, which are places in `order`, as they are in the matrix, ascending.
void put_back(const Columns& order, Coded& part) {
  const std::size_t books = part.code.books.size(), cols = part.layout.cols;
  const Columns columns = gather(order, part.columns);
  Columns from(cols);  // the part's columns by where they are in the matrix
  std::iota(from.begin(), from.end(), 0u);
  std::ranges::sort(from, {}, [&](std::uint32_t at) { return columns[at]; });
  const AdditiveCode before = part.code;
  for (std::size_t to = 0; to < cols; ++to) {
    part.columns[to] = columns[from[to]];
    part.code.scales[to] = before.scales[from[to]];
    for (std::size_t block = 0; block < part.layout.blocks(); ++block) {
      std::copy_n(before.codes.begin() + (block * cols + from[to]) * books, books,
                  part.code.codes.begin() + (block * cols + to) * books);
    }
  }
}

void encode_with_feedback(ConstMatrixView weights, const ColumnFeedback& feedback,
                          std::int64_t sweeps, std::vector<Coded>& parts,
                          const EncodeContext& context) {
  const Factor& factor = feedback.factor;
  Columns order = feedback.order, place_in(weights.cols);  // as the factor has the columns
  if (order.empty()) {
    order.resize(weights.cols);
    std::iota(order.begin(), order.end(), 0u);
  }
  for (std::uint32_t k = 0; k < order.size(); ++k) place_in[order[k]] = k;
  const Matrix ordered = gather(weights, order);
  for (Coded& part : parts) {
    part.columns = gather(place_in, part.columns);
    std::ranges::sort(part.columns);
    if (!feedback.weights.empty()) {
      part.options.importance = gather(gather(feedback.weights, order), part.columns);
    }
  }
  encode_parts(ordered, parts, context);
  for (Coded& part : parts) {  // entries that are zero because there are few vectors
    if (!part.options.books.empty()) continue;
    for (Codebook& book : part.code.books) {
      book.size = std::min(book.size, std::max<std::size_t>(1, part.layout.size()));
      book.values.resize(book.size * book.dim);
    }
  }

  std::vector<float> pivots;
  const double mean = std::accumulate(factor.pivot.begin(), factor.pivot.end(), 0.0) /
                      static_cast<double>(weights.cols);
  for (const double pivot : factor.pivot) pivots.push_back(static_cast<float>(pivot / mean));
  Matrix targets(weights.rows, weights.cols);
  double least = std::numeric_limits<double>::infinity();
  std::vector<AdditiveCode> best(parts.size());
  const AdditiveOptions& options = parts.back().options;
  for (int pass = 0; pass <= options.rounds; ++pass) {
    const double loss = code_columns(ordered, factor, parts, targets, context);
    const bool enough = !(loss < least * (1 - options.tolerance));
    for (std::size_t p = 0; p < parts.size() && loss < least; ++p) best[p] = parts[p].code;
    least = std::min(least, loss);
    if (enough || pass == options.rounds) break;
    for (Coded& part : parts) refit(targets, pivots, part, parts.size() == 1, context.pool);
  }
  for (std::size_t p = 0; p < parts.size(); ++p) {
    parts[p].code = std::move(best[p]);
    put_back(order, parts[p]);
  }
  if (feedback.descent.coupling.size() != 0) {
    descend_columns(weights, feedback.descent, sweeps, parts, context);
  }
  for (Coded& part : parts) {
    for (std::size_t m = 0; m < part.code.books.size(); ++m) {
      part.code.books[m].size = part.options.sizes[m];
      part.code.books[m].values.resize(part.options.sizes[m] * part.layout.dim);
    }
  }
}

void pack_codes(const Coded& part, Bytes& q, ThreadPool& pool) {
  const VptqPart& layout = part.layout;
  const std::size_t books = part.code.books.size();
  parallel_for(pool, layout.blocks(), 16, [&](std::size_t begin, std::size_t end) {
    std::vector<std::uint32_t> fields(layout.cols);
    for (std::size_t block = begin; block < end; ++block) {
      for (std::size_t j = 0; j < layout.cols; ++j) {
        const std::uint32_t* codes = part.code.codes.data() + (block * layout.cols + j) * books;
        fields[j] = codes[0] | (books > 1 ? codes[1] << layout.main_bits : 0);
      }
      const Bytes packed = pack_bits(fields, layout.code_bits());
      std::memcpy(q.data() + layout.codes_at + block * layout.block_bytes(), packed.data(),
                  packed.size());
    }
  });
}

std::vector<float> energies(ConstMatrixView weights, const ColumnFeedback* feedback) {
  std::vector<float> energy(weights.cols, 1.0f);
  if (feedback != nullptr) return feedback->weights.empty() ? energy : feedback->weights;
  for (std::size_t j = 0; j < weights.cols; ++j) {
    double sum = 0;
    for (std::size_t i = 0; i < weights.rows; ++i) sum += double{weights(i, j)} * weights(i, j);
    energy[j] = static_cast<float>(sum);
  }
  return energy;
}

Packed encode(ConstMatrixView weights, const Spec& spec, const EncodeContext& context) {
  const VptqLayout layout(spec, weights.rows, weights.cols);
  const ColumnFeedback* const feedback =
      context.prepared == nullptr ? nullptr : &prepared_as<ColumnFeedback>(context, spec);
  std::vector<Coded> parts = cut_into_parts(spec, layout, energies(weights, feedback));
  if (context.shared != nullptr) {
    Coded& only = parts.front();
    only.options.books =
        unpack_codebooks(context.shared->bytes, only.layout.dim, only.options.sizes);
  }
  if (feedback == nullptr) {
    encode_parts(weights, parts, context);
  } else {
    encode_with_feedback(weights, *feedback, spec.integer("sweeps"), parts, context);
  }

  Bytes q(layout.code_bytes), scale(4 * layout.cols);
  std::vector<std::uint32_t> part_of(layout.cols);
  std::vector<Codebook> books;
  for (std::uint32_t p = 0; p < parts.size(); ++p) {
    const Coded& part = parts[p];
    pack_codes(part, q, context.pool);
    for (std::size_t at = 0; at < part.columns.size(); ++at) {
      const std::uint32_t j = part.columns[at];
      part_of[j] = p;
      std::memcpy(scale.data() + 4 * j, &part.code.scales[at], 4);
    }
    books.insert(books.end(), part.code.books.begin(), part.code.books.end());
  }
  Packed packed{spec, layout.rows, layout.cols, {}};
  packed.sections.push_back({"q", Part::indices, std::move(q)});
  packed.sections.push_back({"scale", Part::scales, std::move(scale)});
  if (layout.column_bits() > 0) {
    packed.sections.push_back({"columns", Part::other, pack_bits(part_of, layout.column_bits())});
  }
  store_codebooks(books, context, packed);
  return packed;
}

void decode(const Packed& packed, MatrixView out, ThreadPool& pool) {
  const VptqLayout layout(packed.spec, packed.rows, packed.cols);
  const std::span<const std::byte> q = packed.section("q", layout.code_bytes);
  const std::span<const std::byte> scale = packed.section("scale", 4 * layout.cols);
  const std::span<const std::byte> book_bytes = packed.section("codebook", layout.book_bytes);
  const auto columns = layout.columns(packed);
  std::vector<float> scales(layout.cols);
  std::memcpy(scales.data(), scale.data(), scale.size());

  for (std::size_t p = 0; p < layout.parts.size(); ++p) {
    const VptqPart& part = layout.parts[p];
    std::vector<Codebook> books = unpack_codebooks(
        std::span(book_bytes).subspan(part.books_at, part.book_bytes()), part.dim, part.sizes());
    if (part.residual == 1) books.emplace_back(part.dim, 1);
    const Codebook &main = books[0], &residual = books[1];
    const std::uint32_t main_mask = static_cast<std::uint32_t>(part.main - 1);
    parallel_for(pool, part.blocks(), 16, [&](std::size_t begin, std::size_t end) {
      std::vector<std::uint32_t> fields(part.cols);
      for (std::size_t block = begin; block < end; ++block) {
        unpack_bits({q.data() + part.codes_at + block * part.block_bytes(), part.block_bytes()},
                    part.code_bits(), fields);
        const std::size_t first = block * part.dim;
        for (std::size_t d = 0; d < std::min(part.dim, layout.rows - first); ++d) {
          const std::span<float> row = out.row(first + d);
          for (std::size_t at = 0; at < part.cols; ++at) {
            const std::uint32_t j = columns[p][at];
            row[j] = scales[j] *
                     (main[fields[at] & main_mask][d] + residual[fields[at] >> part.main_bits][d]);
          }
        }
      }
    });
  }
}

double nominal_bpw(const Spec& spec, std::size_t rows, std::size_t cols) {
  const VptqLayout layout(spec, rows, cols);
  double bits = 32.0 / static_cast<double>(rows);
  for (const VptqPart& part : layout.parts) {
    bits += static_cast<double>(part.code_bits() * part.cols) /
            static_cast<double>(part.dim * layout.cols);
  }
  return bits;
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
               order_key(), damp_key(),
               integer_key("sweeps", 3, 0, 1000,
                           "calibrated: sweeps of coordinate descent over the columns at the end"),
               integer_key("groups", 1, 1, 256, "groups of columns with codebooks of their own"),
               real_key("outliers", "0", 0, 50,
                        "per cent of the columns, those of largest H_jj, with a codebook of their "
                        "own, which is in no group"),
               integer_key("ov", 4, 1, 16, "vector length of outlier columns"),
               integer_key("ok", 256, 2, 65536, "centroids of outlier columns, a power of two"),
               share_key()},
      .check = check,
      .nominal_bpw = nominal_bpw,
      .prepare = prepare_by_columns,
      .prepare_keys = {"damp", "order", "sweeps"},
      .encode = encode,
      .memory = {.weights = 3.6, .calibrated = 4.9, .preparing = 2.1, .prepared = 1.05},
      .shares_rows = true,
      .additive = additive,
      .decode = decode,
  };
}

}  // namespace squish::quant
