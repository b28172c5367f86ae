#include "squish/compress/sequential_sums.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "squish/base/error.h"
#include "squish/io/safetensors.h"
#include "squish/linalg/outer_product.h"
#include "squish/quant/quantizer.h"

namespace squish::compress {
namespace {

// As squish calibrate has it.
constexpr float kLargestActivation = quant::kLargestWeight;

bool is_good(std::span<const float> row) { return linalg::all_within(row, kLargestActivation); }

/// a - b, into a.
void subtract(std::span<float> a, std::span<const float> b) {
  for (std::size_t j = 0; j < a.size(); ++j) a[j] -= b[j];
}

template <class Sums>  // const or not
auto arrays(Sums& sums) {
  return std::array{std::pair{"sum", &sums.sum}, std::pair{"products", &sums.products},
                    std::pair{"shift", &sums.shift}, std::pair{"residual", &sums.residual}};
}

}  // namespace

SequentialSums::SequentialSums(std::size_t n, std::size_t rows)
    : width(n),
      stream(rows),
      sum(n),
      products(linalg::triangle_size(n)),
      shift(n * n),
      residual(rows * n) {}

void SequentialSums::add(Matrix x, Matrix own, Matrix r, ConstMatrixView own_r, ThreadPool& pool) {
  std::size_t kept = 0;
  for (std::size_t t = 0; t < x.rows(); ++t) {
    if (!is_good(x.row(t)) || !is_good(own.row(t))) continue;
    if (stream > 0 && (!is_good(r.row(t)) || !is_good(own_r.row(t)))) continue;
    subtract(x.row(t), own.row(t));
    if (stream > 0) subtract(r.row(t), own_r.row(t));
    for (Matrix* const matrix : {&x, &own, &r}) {
      if (kept < t && matrix->size() > 0) {
        std::ranges::copy(matrix->row(t), matrix->row(kept).data());
      }
    }
    ++kept;
  }
  tokens += kept;
  const ConstMatrixView behind = own.view().row_range(0, kept);
  linalg::add_rows(behind, sum, pool);
  linalg::add_outer_products(behind, products, pool);
  linalg::add_cross_products(x.view().row_range(0, kept), behind, shift, pool);
  if (stream > 0) {
    linalg::add_cross_products(r.view().row_range(0, kept), behind, residual, pool);
  }
}

void SequentialSums::add(const SequentialSums& other) {
  tokens += other.tokens;
  const auto from = arrays(other);
  const auto to = arrays(*this);
  for (std::size_t i = 0; i < to.size(); ++i) {
    std::ranges::transform(*to[i].second, *from[i].second, to[i].second->begin(), std::plus());
  }
}

void write_sums(const std::filesystem::path& path, const SequentialSums& sums) {
  std::vector<io::StoredTensor> tensors;
  std::map<std::string, std::string> metadata = {{"tokens", std::to_string(sums.tokens)}};
  for (const auto& [name, values] : arrays(sums)) {
    tensors.push_back({name, io::DType::F64, {values->size()}, std::as_bytes(std::span(*values))});
    metadata[name] = sha256(tensors.back().bytes);
  }
  io::write_safetensors(path, tensors, metadata);
}

SequentialSums read_sums(const std::filesystem::path& path, std::size_t width, std::size_t stream,
                         bool check) {
  const io::SafetensorsFile file = io::read_safetensors_file(path);
  SequentialSums sums(width, stream);
  for (const auto& [name, values] : arrays(sums)) {
    const io::Tensor& tensor = file.table.at(name, io::DType::F64, {values->size()});
    if (check) file.check_sum(tensor);
    if (!values->empty()) std::memcpy(values->data(), tensor.bytes.data(), tensor.bytes.size());
  }
  const auto tokens = file.metadata.find("tokens");
  if (tokens == file.metadata.end()) fail("{}: 'tokens' is missing", path.string());
  sums.tokens = std::strtoull(tokens->second.c_str(), nullptr, 10);
  return sums;
}

}  // namespace squish::compress
