// Products with matrices of QuIP# (squish/quant/quip.cc). Its codebooks are small integers in
// quarters or halves, so sums are exact; one part for each section of codes.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "squish/base/isa.h"
#include "squish/kernels/methods.h"
#include "squish/kernels/quip.isa.h"
#include "squish/linalg/vector_ops.isa.h"
#include "squish/quant/e8p.h"
#include "squish/quant/incoherence.h"
#include "squish/quant/quip_layout.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(QuipOps, kQuipOps);

namespace {

/// A byte a coordinate, coordinate 0 lowest.
template <class F>
std::uint64_t eight(F&& of) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    bytes |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(of(i))) << (8 * i);
  }
  return bytes;
}

/// For gf2p8affineqb, whose row of a matrix is a byte, bit 7's first: the linear map that takes
/// bit b of a byte to image(b).
template <class F>
std::uint64_t matrix(F&& image) {
  return eight([&](std::size_t row) {
    int bits = 0;
    for (int b = 0; b < 8; ++b) bits |= (image(b) >> (7 - row) & 1) << b;
    return bits;
  });
}

constexpr int kFlip = 4 + 8 + 16;  // the bits of a value that its sign flips

E8pLookup make_e8p_lookup() {
  const quant::E8pTable& table = quant::e8p_table();
  E8pLookup t{};
  for (int c = 0; c < 256; ++c) {
    t.signs[c] = eight([&](std::size_t i) {
      return (table.signs[c][i] < 0 ? kFlip : 0) ^ (table.shift[c] < 0 ? 2 : 0);
    });
    t.rows[c] = eight([&](std::size_t i) {
      const float entry = table.rows[c][i];
      const int steps = static_cast<int>(entry < 0 ? -entry : entry);  // above 1/2
      t.halves[i / 4][c] |= static_cast<std::uint8_t>(steps << (2 * (i % 4)));
      return E8pLookup::kOffset ^ (entry < 0 ? kFlip : 0) ^ (4 * steps + 3);
    });
  }
  const auto parity = [](int b) { return b % 2 == 0 ? kFlip : 0; };  // of a half's steps
  for (int i = 0; i < 8; ++i) {
    t.of_half[i] = matrix([&](int b) {
      const int steps = b / 2 == i % 4 ? 4 << (b % 2) : 0;
      return i == 7 ? steps ^ parity(b) : steps;
    });
    t.of_signs[i] =
        matrix([&](int b) { return static_cast<int>(t.signs[1 << b] >> (8 * i) & 255); });
  }
  t.of_first_half = matrix(parity);
  return t;
}

E81bLookup make_e81b_lookup() {
  E81bLookup t{};
  for (int c = 0; c < 256; ++c) {
    t.points[c] = eight([&](std::size_t i) {
      const int value =
          static_cast<int>(2 * quant::e81b_points().point[c][i]) + E81bLookup::kOffset;
      t.pairs[i % 4][c] |= static_cast<std::uint8_t>(value << (i / 4 * 4));
      return value;
    });
  }
  return t;
}

const E8pLookup& e8p_lookup() {
  static const E8pLookup table = make_e8p_lookup();
  return table;
}

const E81bLookup& e81b_lookup() {
  static const E81bLookup table = make_e81b_lookup();
  return table;
}

/// values += unit * (bytes - offset).
void add_bytes(std::uint64_t bytes, int offset, float unit, float* values) {
  std::uint8_t each[8];
  std::memcpy(each, &bytes, sizeof(each));
  for (std::size_t k = 0; k < 8; ++k) values[k] += unit * static_cast<float>(each[k] - offset);
}

class QuipKernel : public Kernel {
 public:
  QuipKernel(std::shared_ptr<const quant::Packed> packed, const quant::StoredRotation& stored)
      : Kernel(packed->rows,
               {packed->cols, std::make_shared<const Rotation>(stored.signs_in, packed->cols)}, 8,
               packed->spec.integer("bits") > kCoarseBits,
               std::make_shared<const Rotation>(stored.signs_out, packed->rows, stored.scale)),
        packed_(std::move(packed)),
        layout_(packed_->spec, packed_->rows, packed_->cols),
        ops_(choose(scalar::kQuipOps, avx2::kQuipOps, avx512::kQuipOps, avx512vbmi::kQuipOps)),
        main_(part("codes", layout_.code_bytes())) {
    if (layout_.bits > 2) residual_ = part(layout_.second_name(), layout_.second_bytes());
  }

  void tabulate(const Input& x, Bytes& tables) const override {
    const std::size_t bytes = arranged_bytes(x.blocks());
    tables.resize(fine() ? 2 * bytes : bytes);
    auto* const arranged = reinterpret_cast<std::int8_t*>(tables.data());
    ops_.arrange(x.q.data(), x.blocks(), arranged);
    if (fine()) ops_.arrange(x.rest.data(), x.blocks(), arranged + bytes);
  }

  void multiply(const Input& x, const Bytes& tables, std::size_t begin, std::size_t end,
                float* y) const override {
    const std::int32_t sum_x = std::accumulate(x.sum.begin(), x.sum.end(), std::int32_t{0});
    const std::int32_t sum_rest =
        std::accumulate(x.rest_sum.begin(), x.rest_sum.end(), std::int32_t{0});
    thread_local std::vector<std::int32_t> sums, rests;
    sums.resize(end - begin);
    rests.resize(end - begin);
    for (std::size_t i = begin; i < end; ++i) y[i] = 0;
    const auto add = [&](float unit, std::int32_t offset) {
      const float factor = x.scale[0] * unit;
      const auto add_to = linalg::vector_ops().add_integers;
      add_to(factor, sums.data(), offset * sum_x, end - begin, y + begin);
      if (!fine()) return;
      add_to(factor / (1 << kRestBits), rests.data(), offset * sum_rest, end - begin, y + begin);
    };
    const auto with_input = [&](QuipPart part) {
      part.x = reinterpret_cast<const std::int8_t*>(tables.data());
      if (fine()) part.rest = part.x + arranged_bytes(x.blocks());
      return part;
    };
    const auto add_e8p = [&](const QuipPart& part, float unit) {
      ops_.multiply_e8p(e8p_lookup(), with_input(part), begin, end, sums.data(), rests.data());
      add(unit / 4, E8pLookup::kOffset);
    };
    add_e8p(main_, 1);
    if (layout_.bits == 2) return;
    const float unit = 1 / quant::e8p_magnification(layout_.bits);
    if (layout_.bits == 4) return add_e8p(residual_, unit);
    ops_.multiply_e81b(e81b_lookup(), with_input(residual_), begin, end, sums.data(), rests.data());
    add(unit / 2, E81bLookup::kOffset);
  }

  bool decodes() const override { return true; }
  void decode(std::size_t begin, std::size_t end, float* rows) const override {
    const E8pLookup& e8p = e8p_lookup();
    const E81bLookup& e81b = e81b_lookup();
    const float unit = 1 / quant::e8p_magnification(layout_.bits);
    const auto e8p_bytes = [&](const QuipPart& part, std::size_t v) {
      return e8p.rows[part.codes[2 * v + 1]] ^ e8p.signs[part.codes[2 * v]];
    };
    for (std::size_t i = begin; i < end; ++i, rows += layout_.cols) {
      for (std::size_t v = 0; v < layout_.row_vectors; ++v) {
        const std::size_t at = i * layout_.row_vectors + v;
        float values[8] = {};
        add_bytes(e8p_bytes(main_, at), E8pLookup::kOffset, 0.25f, values);
        if (layout_.bits == 4) {
          add_bytes(e8p_bytes(residual_, at), E8pLookup::kOffset, unit / 4, values);
        } else if (layout_.bits == 3) {
          add_bytes(e81b.points[residual_.codes[at]], E81bLookup::kOffset, unit / 2, values);
        }
        std::copy_n(values, std::min<std::size_t>(8, layout_.cols - 8 * v), rows + 8 * v);
      }
    }
  }

 private:
  QuipPart part(const char* section, std::size_t bytes) const {
    const auto* const codes = packed_->section(section, bytes).data();
    return {.codes = reinterpret_cast<const std::uint8_t*>(codes),
            .bytes = bytes,
            .row_vectors = layout_.row_vectors,
            .x = nullptr,
            .rest = nullptr};
  }

  std::shared_ptr<const quant::Packed> packed_;
  quant::QuipLayout layout_;
  const QuipOps& ops_;
  QuipPart main_, residual_{};
};

}  // namespace

std::unique_ptr<const Kernel> quip_kernel(std::shared_ptr<const quant::Packed> packed) {
  if (packed->spec.word("form") != "e8p") return nullptr;
  const quant::StoredRotation stored(*packed);
  return std::make_unique<QuipKernel>(std::move(packed), stored);
}

}  // namespace squish::kernels
