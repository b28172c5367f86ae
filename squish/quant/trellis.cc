// Trellis-coded quantisation (QTIP, arXiv 2406.11235): incoherence processing on both sides, then
// long runs of rotated weights are coded together, each weight's value given by the last bits of a
// stream that grows by `bits` a weight; the Viterbi algorithm finds the stream whose values are
// nearest.
//
// Where it departs from QTIP: a stream runs down the rows of ONE column, not through a 16 x 16
// tile. All its weights share an input, so the plain squared error is the true metric inside it,
// and error feedback acts after every column (LDLQ in blocks of 1, then sweeps of coordinate
// descent) where tiles leave 16 columns without any. The default code is our own, for vector
// registers (trellis_code.h); QTIP's are there for comparison.
//
// Stored, per matrix of m rows (padded to whole groups of 8) and n columns:
//   codes      for each group of 8 rows, for each block of 64 columns (the last may be narrower):
//              K bytes a column, first the lowest bytes of all columns of the block, then the next.
//              These are the 8 symbols of the group, bits K * r and up that of row r. K is `bits`;
//              where that is a fraction, it is rounded up in the first blocks (whose errors no
//              column before them makes up for), as many as come closest, and down in the rest.
//   signs_in, signs_out   squish/quant/incoherence.h
//   scale      one f32
// form=tiles is QTIP's: `codes` has for each tile of 16 x 16 weights (the last ones of a row or
// column padded), row by row, a ring of 256 symbols, LSB first, of the tile's weights row by row;
// feedback acts after every 16 columns. Streams are `stream_groups` groups long, the last perhaps
// shorter, none shorter than 4 states. The state of a row is the L bits from its symbol on, lowest
// first, around the ring of its stream; a code with two weights a step has the state of the even
// row. Rhat = scale * value(state).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "squish/base/bits.h"
#include "squish/base/error.h"
#include "squish/quant/incoherence.h"
#include "squish/quant/registry.h"
#include "squish/quant/trellis_code.h"
#include "squish/quant/viterbi.h"

namespace squish::quant {
namespace {

constexpr std::size_t kGroup = 8, kBlock = 64, kTile = 16;
constexpr std::size_t kLongestStream = 384;  // rows

/// What the spec asks for, for a matrix of n columns: `low` bits a weight, and one more in the
/// first `high_cols`, which are whole blocks.
struct Rates {
  unsigned low;
  std::size_t high_cols;

  Rates(const Spec& spec, std::size_t cols) {
    const double bits = spec.real("bits");
    low = static_cast<unsigned>(bits);
    const auto blocks = static_cast<double>((cols + kBlock - 1) / kBlock);
    high_cols =
        std::min(cols, kBlock * static_cast<std::size_t>(std::lround((bits - low) * blocks)));
  }
};

bool in_tiles(const Spec& spec) { return spec.word("form") == "tiles"; }
std::size_t feedback_block(const Spec& spec) { return in_tiles(spec) ? kTile : 1; }

struct Layout {
  Rates rates;
  bool tiles;
  std::size_t rows, cols, groups = 0, stream_groups = 0;

  Layout(const Spec& spec, std::size_t r, std::size_t c)
      : rates(spec, c), tiles(in_tiles(spec)), rows(r), cols(c) {
    if (tiles) return;
    const unsigned state_bits = trellis_code(spec.word("code"), rates.low).state_bits;
    const std::size_t group_bits = kGroup * rates.low;
    const std::size_t least = (4 * state_bits + group_bits - 1) / group_bits;
    groups = std::max(least, (rows + kGroup - 1) / kGroup);
    const std::size_t streams = (groups * kGroup + kLongestStream - 1) / kLongestStream;
    stream_groups = (groups + streams - 1) / streams;
    // The last stream may be too short for that, too.
    const std::size_t last = groups % stream_groups;
    if (last != 0 && last < least) groups += least - last;
  }
  std::size_t group_bytes() const { return cols * rates.low + rates.high_cols; }
  std::size_t code_bytes() const {
    return tiles ? tile_rows() * tile_cols() * tile_bytes() : groups * group_bytes();
  }
  std::size_t tile_rows() const { return (rows + kTile - 1) / kTile; }
  std::size_t tile_cols() const { return (cols + kTile - 1) / kTile; }
  std::size_t tile_bytes() const { return kTile * kTile * rates.low / 8; }
  /// Of a ring of weights.
  std::size_t ring_rows() const { return tiles ? kTile : kGroup * stream_groups; }
  std::size_t ring_cols() const { return tiles ? kTile : 1; }
  /// Of the lowest byte of column j in a group; the next is `block_width(j)` further.
  std::size_t address(std::size_t group, std::size_t j) const {
    const std::size_t block = j / kBlock * kBlock;
    return group * group_bytes() + block * rates.low + std::min(block, rates.high_cols) +
           j % kBlock;
  }
  std::size_t block_width(std::size_t j) const {
    return std::min(kBlock, cols - j / kBlock * kBlock);
  }
  /// Groups of the stream that begins with `first`.
  std::size_t length(std::size_t first) const { return std::min(stream_groups, groups - first); }
};

/// One for the columns of each rate.
struct Encoders {
  ViterbiPool low;
  std::optional<ViterbiPool> high;

  Encoders(const Spec& spec, const Rates& rates) : low(trellis_code(spec.word("code"), rates.low)) {
    if (rates.high_cols > 0) high.emplace(trellis_code(spec.word("code"), rates.low + 1));
  }
  ViterbiPool& of(const Rates& rates, std::size_t j) { return j < rates.high_cols ? *high : low; }
};

/// Rounds a ring's weights, which are `target` row by row, `width` a row (what is missing at the
/// right is 0). Empty, and `value` stays, where that is as near and `keep_nearer` says so.
std::vector<std::uint16_t> round_ring(ViterbiPool& encoders, std::size_t length, std::size_t width,
                                      ConstMatrixView target, MatrixView value, bool keep_nearer) {
  const TrellisCode& code = encoders.code();
  std::vector<float> x(target.rows * width);
  for (std::size_t i = 0; i < target.rows; ++i) {
    for (std::size_t j = 0; j < target.cols; ++j) x[i * width + j] = target(i, j);
  }
  std::vector<std::uint16_t> symbols(length / code.step);
  encoders.encode(x, symbols);
  std::vector<float> values(x.size());
  double now = 0, then = 0;
  for (std::size_t i = 0; i < target.rows; ++i) {
    for (std::size_t j = 0; j < target.cols; ++j) {
      const std::size_t at = i * width + j;
      values[at] = trellis_value(code, symbols, at);
      now += std::pow(double{values[at]} - x[at], 2);
      then += std::pow(double{value(i, j)} - x[at], 2);
    }
  }
  if (keep_nearer && now >= then) return {};
  for (std::size_t i = 0; i < target.rows; ++i) {
    for (std::size_t j = 0; j < target.cols; ++j) value(i, j) = values[i * width + j];
  }
  return symbols;
}

/// As column j of the stream that begins with group `first`.
void store_stream(const Layout& layout, const TrellisCode& code, std::size_t first, std::size_t j,
                  std::span<const std::uint16_t> symbols, Bytes& codes) {
  const std::size_t per_group = kGroup / code.step, stride = layout.block_width(j);
  for (std::size_t g = 0; g < symbols.size() / per_group; ++g) {
    std::uint32_t word = 0;
    for (std::size_t s = per_group; s-- > 0;) {
      word = word << code.step_bits() | symbols[g * per_group + s];
    }
    std::byte* const at = codes.data() + layout.address(first + g, j);
    for (std::size_t b = 0; b < code.bits; ++b) {
      at[b * stride] = static_cast<std::byte>(word >> (8 * b));
    }
  }
}

void decode_tile(const Layout& layout, const TrellisCode& code, const Bytes& codes,
                 std::size_t tile, MatrixView out) {
  std::vector<std::uint32_t> fields(kTile * kTile / code.step);
  unpack_bits(std::span(codes).subspan(tile * layout.tile_bytes(), layout.tile_bytes()),
              code.step_bits(), fields);
  const std::vector<std::uint16_t> symbols(fields.begin(), fields.end());
  const std::size_t first_row = tile / layout.tile_cols() * kTile;
  const std::size_t first_col = tile % layout.tile_cols() * kTile;
  for (std::size_t i = first_row; i < std::min(layout.rows, first_row + kTile); ++i) {
    for (std::size_t j = first_col; j < std::min(layout.cols, first_col + kTile); ++j) {
      out(i, j) = trellis_value(code, symbols, (i - first_row) * kTile + j - first_col);
    }
  }
}

void store_tile(const Layout& layout, const TrellisCode& code, std::size_t tile,
                std::span<const std::uint16_t> symbols, Bytes& codes) {
  const std::vector<std::uint32_t> fields(symbols.begin(), symbols.end());
  const Bytes packed = pack_bits(fields, code.step_bits());
  std::copy(packed.begin(), packed.end(),
            codes.begin() + static_cast<std::ptrdiff_t>(tile * layout.tile_bytes()));
}

/// Column j of a group of rows.
void decode_column(const Layout& layout, const TrellisCode& code, const Bytes& codes,
                   std::size_t group, std::size_t j, MatrixView out) {
  const std::size_t first = group / layout.stream_groups * layout.stream_groups;
  const std::size_t length = layout.length(first), stride = layout.block_width(j);
  const std::size_t rows = std::min(kGroup, out.rows - group * kGroup);
  // The group's own bytes and those that its last states run on into.
  std::uint64_t window = 0;
  for (std::size_t b = 0; b < code.bits + 2; ++b) {
    const std::size_t g = first + (group - first + b / code.bits) % length;
    const std::byte byte = codes[layout.address(g, j) + b % code.bits * stride];
    window |= std::to_integer<std::uint64_t>(byte) << (8 * b);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t place = r % code.step;
    const std::uint64_t state = window >> (code.bits * (r - place)) & (code.states() - 1);
    out(group * kGroup + r, j) = code.values[(place << code.state_bits) + state];
  }
}

std::shared_ptr<const Prepared> prepare(const InputMoments& moments, const Spec& spec,
                                        const PrepareContext& context) {
  return prepare_rotated(moments, feedback_block(spec), spec.real("damp"),
                         spec.integer("sweeps") > 0, context);
}

Packed encode(ConstMatrixView weights, const Spec& spec, const EncodeContext& context) {
  const Layout layout(spec, weights.rows, weights.cols);
  ThreadPool& pool = context.pool;
  const RotatedInput* const prepared = rotated_input(context, spec, feedback_block(spec));
  Bytes signs_in = prepared != nullptr ? prepared->signs_in
                                       : input_signs(layout.cols, context.seed, context.key);
  Bytes signs_out = output_signs(layout.rows, context.seed, context.key);
  double scale = root_mean_square(weights, pool);
  Matrix rotated(layout.rows, layout.cols), rounded(layout.rows, layout.cols);
  rotate(weights, scale, signs_in, signs_out, rotated, pool);

  Encoders encoders(spec, layout.rates);
  Bytes codes(layout.code_bytes());
  bool first_pass = true;
  BlockRounding rounding;
  rounding.row_multiple = layout.ring_rows();
  rounding.round = [&](std::size_t first_row, std::size_t col, ConstMatrixView target,
                       MatrixView value) {
    ViterbiPool& encoder = encoders.of(layout.rates, col);
    for (std::size_t begin = 0; begin < target.rows; begin += layout.ring_rows()) {
      const std::size_t end = std::min(target.rows, begin + layout.ring_rows());
      const std::size_t row = first_row + begin, group = row / kGroup;
      const auto symbols = round_ring(
          encoder, layout.tiles ? kTile * kTile : kGroup * layout.length(group), layout.ring_cols(),
          target.row_range(begin, end), value.row_range(begin, end), !first_pass);
      if (symbols.empty()) continue;  // the ring may be closed elsewhere than was best
      if (layout.tiles) {
        store_tile(layout, encoder.code(), row / kTile * layout.tile_cols() + col / kTile, symbols,
                   codes);
      } else {
        store_stream(layout, encoder.code(), group, col, symbols, codes);
      }
    }
  };
  if (prepared != nullptr) {
    ldlq(rotated, prepared->factor, rounding, rounded, pool);
    first_pass = false;
    for (std::int64_t sweep = 0; sweep < spec.integer("sweeps"); ++sweep) {
      descend(rotated, prepared->descent, rounding, rounded, pool);
    }
    scale *= best_scale(rotated, rounded, prepared->factor, pool);
  } else {
    const std::size_t across = (layout.cols + layout.ring_cols() - 1) / layout.ring_cols();
    const std::size_t down = (layout.rows + layout.ring_rows() - 1) / layout.ring_rows();
    pool.run(across * down, [&](std::size_t ring) {
      const std::size_t row = ring / across * layout.ring_rows();
      const std::size_t col = ring % across * layout.ring_cols();
      const std::size_t row_end = std::min(layout.rows, row + layout.ring_rows());
      const std::size_t col_end = std::min(layout.cols, col + layout.ring_cols());
      rounding.round(row, col, rotated.view().row_range(row, row_end).col_range(col, col_end),
                     rounded.view().row_range(row, row_end).col_range(col, col_end));
    });
    scale *= best_scale(rotated, rounded, pool);
  }

  Packed packed{spec, layout.rows, layout.cols, {}};
  packed.sections.push_back({"codes", Part::indices, std::move(codes)});
  store_rotation(std::move(signs_in), std::move(signs_out), scale, packed);
  return packed;
}

void decode(const Packed& packed, MatrixView out, ThreadPool& pool) {
  const Layout layout(packed.spec, packed.rows, packed.cols);
  const Bytes& codes = packed.section("codes", layout.code_bytes());
  const StoredRotation rotation(packed);
  const std::string& name = packed.spec.word("code");
  const TrellisCode& low = trellis_code(name, layout.rates.low);
  const TrellisCode& high =
      trellis_code(name, layout.rates.high_cols > 0 ? layout.rates.low + 1 : layout.rates.low);
  if (layout.tiles) {
    pool.run(layout.tile_rows() * layout.tile_cols(),
             [&](std::size_t tile) { decode_tile(layout, low, codes, tile, out); });
  }
  const std::size_t groups = layout.tiles ? 0 : (layout.rows + kGroup - 1) / kGroup;
  pool.run(groups, [&](std::size_t group) {
    for (std::size_t j = 0; j < layout.cols; ++j) {
      decode_column(layout, j < layout.rates.high_cols ? high : low, codes, group, j, out);
    }
  });
  rotation.undo(out, pool);
}

void check(const Spec& spec) {
  if (spec.word("code") == "hyb" && spec.real("bits") > 2) {
    fail_usage("spec '{}': code=hyb has two weights a step and at most 2 bits a weight",
               spec.asked());
  }
  const double bits = spec.real("bits");
  if (in_tiles(spec) && (bits != std::floor(bits) || spec.integer("sweeps") != 0)) {
    fail_usage("spec '{}': form=tiles takes whole bits and no sweeps", spec.asked());
  }
}

double nominal_bpw(const Spec& spec, std::size_t /*rows*/, std::size_t cols) {
  const Rates rates(spec, cols);
  return rates.low + static_cast<double>(rates.high_cols) / static_cast<double>(cols);
}

}  // namespace

Method trellis_method() {
  return {
      .name = "trellis",
      .summary = "random Hadamard transform on both sides, columns coded along a trellis",
      .source = "QTIP, arXiv 2406.11235; streams down the columns and the default code are ours",
      .keys = {real_key("bits", "2", 1, 4,
                        "bits per weight; a fraction: one more in that share of the columns, in "
                        "blocks of 64"),
               choice_key("code", {"hash", "fast", "1mad", "3inst", "hyb"},
                          "values of the states; hash: ours, for vector registers; fast: the same "
                          "with fewer states; the others are QTIP's"),
               choice_key("form", {"columns", "tiles"},
                          "what a stream runs through; tiles: 16 x 16 weights, as published"),
               real_key("damp", "0.01", 0, 10,
                        "calibrated: added to H's diagonal, relative to its mean"),
               integer_key("sweeps", 0, 0, 1000,
                           "calibrated: sweeps of coordinate descent after the feedback")},
      .check = check,
      .nominal_bpw = nominal_bpw,
      .prepare = prepare,
      .encode = encode,
      .memory = {.weights = 3, .hessians = 3.15},
      .decode = decode,
  };
}

}  // namespace squish::quant
