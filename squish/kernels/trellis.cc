// Products with matrices of the trellis (squish/quant/trellis.cc) whose code is ours, hash or fast.
// Tables of their values are bytes, so sums are exact; one part for the columns of each rate, two
// where two codes are added up.
#include <utility>
#include <vector>

#include "squish/base/isa.h"
#include "squish/kernels/methods.h"
#include "squish/kernels/trellis.isa.h"
#include "squish/linalg/vector_ops.isa.h"
#include "squish/quant/incoherence.h"
#include "squish/quant/trellis_layout.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(TrellisOps, kTrellisOps);

namespace {

using quant::LinearHashCode;
using quant::TrellisLayout;

TrellisTables make_tables(const LinearHashCode& code) {
  TrellisTables t{};
  for (unsigned shift = 0; shift < 8; ++shift) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      // Which bits of the window make up this one; a row of gf2p8affineqb is a byte, bit 7's first.
      std::uint32_t hash = 1u << bit;
      for (unsigned b = 0; b + 8 < code.state_bits; ++b) {
        hash |= static_cast<std::uint32_t>(code.columns[b] >> bit & 1) << (8 + b);
      }
      const std::uint32_t nibble = bit < 4 ? 1u << (4 + bit) : 0;
      for (unsigned q = 0; q < 3; ++q) {
        t.hash[shift][q] |= std::uint64_t{hash << shift >> (8 * q) & 255} << (8 * (7 - bit));
      }
      for (unsigned q = 0; q < 2; ++q) {
        t.nibble[shift][q] |= std::uint64_t{nibble << shift >> (8 * q) & 255} << (8 * (7 - bit));
      }
    }
  }
  for (int h = 0; h < 256; ++h) {
    t.sums[h] = static_cast<std::uint8_t>(code.tables[0][h & 15] + code.tables[1][h >> 4] + 128);
  }
  const std::uint32_t mask = (1u << code.state_bits) - 1;
  t.narrow = code.state_bits <= 12;
  for (std::uint32_t n = 0; n < 16; ++n) {
    for (int i = 0; i < 3; ++i) t.tables[i][n] = code.tables[i][n];
    t.low[n] = static_cast<std::uint8_t>(code.hash(n << 8 & mask));
    t.high[n] = static_cast<std::uint8_t>(code.hash(n << 12 & mask));
    t.third |= code.tables[2][n] != 0;
  }
  return t;
}

class TrellisKernel : public Kernel {
 public:
  TrellisKernel(std::shared_ptr<const quant::Packed> packed, const quant::StoredRotation& stored)
      : Kernel(packed->rows,
               {packed->cols, std::make_shared<const Rotation>(stored.signs_in, packed->cols)},
               TrellisLayout::kGroup, packed->spec.real("bits") > kCoarseBits,
               std::make_shared<const Rotation>(stored.signs_out, packed->rows, stored.scale)),
        packed_(std::move(packed)),
        layout_(packed_->spec, packed_->rows, packed_->cols),
        ops_(choose(scalar::kTrellisOps, avx2::kTrellisOps, avx512::kTrellisOps,
                    avx512vbmi::kTrellisOps)) {
    const auto* const codes = reinterpret_cast<const std::uint8_t*>(
        packed_->section("codes", layout_.code_bytes()).data());
    const std::string& name = packed_->spec.word("code");
    for (std::size_t g = 0; g < layout_.groups; ++g) {
      after_.push_back(static_cast<std::uint32_t>(layout_.after(g)));
    }
    const std::size_t cuts[] = {0, layout_.rates.high_cols, layout_.cols};
    for (int i = 0; i < 2; ++i) {
      if (cuts[i] == cuts[i + 1]) continue;
      const unsigned bits = layout_.rates.bits(cuts[i]);
      std::size_t before = 0;
      for (const auto& [code, gain] : quant::trellis_stages(name, bits)) {
        const LinearHashCode& hash = quant::linear_hash_code(name, code.bits);
        Part& part = parts_.emplace_back();
        part.tables = make_tables(hash);
        part.bits = code.bits;
        part.factor = gain * hash.unit;
        part.first_col = cuts[i];
        part.columns = {.tables = nullptr,
                        .codes = codes + layout_.address(0, cuts[i]),
                        .before = before,
                        .group_bytes = layout_.group_bytes(),
                        .block_bytes = bits * kBlock,
                        .cols = cuts[i + 1] - cuts[i],
                        .x = nullptr,
                        .rest = nullptr,
                        .sum_x = 0,
                        .sum_rest = 0};
        before += code.bits;
      }
    }
  }

  void multiply(const Input& x, const Bytes& /*tables*/, std::size_t begin, std::size_t end,
                float* y) const override {
    const std::size_t first = begin / TrellisLayout::kGroup;
    const std::size_t last = (end + TrellisLayout::kGroup - 1) / TrellisLayout::kGroup;
    thread_local std::vector<std::int32_t> sums, rests;
    sums.resize(std::max(sums.size(), (last - first) * TrellisLayout::kGroup));
    rests.resize(sums.size());
    for (std::size_t i = begin; i < end; ++i) y[i] = 0;
    for (const Part& part : parts_) {
      TrellisPart columns = part.columns;
      columns.tables = &part.tables;
      columns.x = x.q.data() + part.first_col;
      if (fine()) columns.rest = x.rest.data() + part.first_col;
      for (std::size_t j = 0; j < columns.cols; j += kBlock) {
        columns.sum_x += x.sum[(part.first_col + j) / kBlock];
        if (fine()) columns.sum_rest += x.rest_sum[(part.first_col + j) / kBlock];
      }
      ops_.multiply[part.bits - 1](columns, after_.data(), first, last, sums.data(), rests.data());
      const float factor = x.scale[0] * part.factor;
      const auto add = linalg::vector_ops().add_integers;
      add(factor, sums.data(), 0, end - begin, y + begin);
      if (fine()) add(factor / (1 << kRestBits), rests.data(), 0, end - begin, y + begin);
    }
  }

  bool decodes() const override { return true; }
  void decode(std::size_t begin, std::size_t end, float* rows) const override {
    const std::size_t first = begin / TrellisLayout::kGroup;
    const std::size_t last = (end + TrellisLayout::kGroup - 1) / TrellisLayout::kGroup;
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      const Part& part = parts_[p];
      TrellisPart columns = part.columns;
      columns.tables = &part.tables;
      const bool add = p > 0 && parts_[p - 1].first_col == part.first_col;  // a second code
      ops_.decode[part.bits - 1](columns, after_.data(), first, last, part.factor, add,
                                 rows + part.first_col, layout_.cols);
    }
  }

 private:
  struct Part {
    TrellisTables tables;
    unsigned bits;
    float factor;
    std::size_t first_col;
    TrellisPart columns;  // but for what each product sets
  };

  std::shared_ptr<const quant::Packed> packed_;
  TrellisLayout layout_;
  const TrellisOps& ops_;
  std::vector<std::uint32_t> after_;
  std::vector<Part> parts_;
};

}  // namespace

std::unique_ptr<const Kernel> trellis_kernel(std::shared_ptr<const quant::Packed> packed) {
  const std::string& code = packed->spec.word("code");
  if (code != "hash" && code != "fast") return nullptr;
  if (packed->spec.word("form") != "columns") return nullptr;
  const quant::StoredRotation stored(*packed);
  return std::make_unique<TrellisKernel>(std::move(packed), stored);
}

}  // namespace squish::kernels
