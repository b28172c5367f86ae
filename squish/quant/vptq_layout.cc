#include "squish/quant/vptq_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "squish/base/error.h"

namespace squish::quant {

VptqPart::VptqPart(std::size_t m, std::size_t n, std::size_t v, std::size_t k, std::size_t r)
    : VectorLayout{m, n, v, true},
      main(k),
      residual(r),
      main_bits(static_cast<unsigned>(std::countr_zero(k))),
      residual_bits(static_cast<unsigned>(std::countr_zero(r))) {}

std::vector<std::size_t> VptqPart::sizes() const {
  return residual > 1 ? std::vector{main, residual} : std::vector{main};
}

VptqLayout::VptqLayout(const Spec& spec, std::size_t r, std::size_t c) : rows(r), cols(c) {
  const auto number = [&](const char* key) { return static_cast<std::size_t>(spec.integer(key)); };
  const double share = spec.real("outliers") / 100;
  const std::size_t outliers =
      std::min(cols, static_cast<std::size_t>(std::ceil(share * static_cast<double>(cols))));
  if (outliers > 0) parts.emplace_back(rows, outliers, number("ov"), number("ok"), 1);
  const std::size_t rest = cols - outliers, groups = number("groups");
  for (std::size_t g = 0; g < groups; ++g) {
    const std::size_t width = (g + 1) * rest / groups - g * rest / groups;
    if (width > 0) parts.emplace_back(rows, width, number("v"), number("k"), number("r"));
  }
  for (VptqPart& part : parts) {
    part.codes_at = code_bytes;
    part.books_at = book_bytes;
    code_bytes += part.code_bytes();
    book_bytes += part.book_bytes();
  }
}

unsigned VptqLayout::column_bits() const {
  return static_cast<unsigned>(std::bit_width(parts.size() - 1));
}

std::vector<std::vector<std::uint32_t>> VptqLayout::columns(const Packed& packed) const {
  std::vector<std::uint32_t> part_of(cols);
  if (column_bits() > 0) {
    unpack_bits(packed.section("columns", column_bytes()), column_bits(), part_of);
  }
  std::vector<std::vector<std::uint32_t>> columns(parts.size());
  for (std::uint32_t j = 0; j < cols; ++j) {
    if (part_of[j] < parts.size()) columns[part_of[j]].push_back(j);
  }
  for (std::size_t p = 0; p < parts.size(); ++p) {
    if (columns[p].size() == parts[p].cols) continue;
    fail("{} matrix of {} x {}: {} columns of part {}, expected {}", packed.spec.full(), rows, cols,
         columns[p].size(), p, parts[p].cols);
  }
  return columns;
}

}  // namespace squish::quant
