#include "squish/kernels/kernel.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "squish/base/isa.h"
#include "squish/kernels/forms.h"
#include "squish/kernels/input.isa.h"
#include "squish/kernels/methods.h"
#include "squish/linalg/vector_ops.isa.h"
#include "squish/quant/incoherence.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(InputOps, kInputOps);

namespace {

constexpr std::size_t kRunsPerThread = 2, kLeastRunWeights = 16 * 1024;
constexpr float kLeast = 1e-30f;  // magnitude that is told from 0

struct Run {
  std::size_t product, input, begin, end;
};

/// Buffers that are kept from token to token.
struct Scratch {
  Forms<Input> inputs;
  std::vector<Bytes> tables;
  std::vector<Run> runs;
  std::vector<std::size_t> runs_left;  // by product
};

}  // namespace

bool InputForm::operator==(const InputForm& other) const {
  if (cols != other.cols || scale_by_block != other.scale_by_block || floats != other.floats) {
    return false;
  }
  if (rotation == nullptr || other.rotation == nullptr) return rotation == other.rotation;
  return rotation == other.rotation || rotation->factors == other.rotation->factors;
}

Rotation::Rotation(std::span<const std::byte> signs, std::size_t n, float scale)
    : hadamard(n), factors(hadamard.factors(quant::diagonal(signs, n, scale))) {}

void make_input(const InputForm& form, std::span<const float> x, bool fine, Input& out) {
  assert(x.size() == form.cols);
  const std::size_t blocks = (form.cols + kBlock - 1) / kBlock;
  out.x.resize(blocks * kBlock);
  out.q.assign(out.x.size(), 0);
  out.rest.assign(fine ? out.x.size() : 0, 0);
  out.scale.resize(blocks);
  out.sum.assign(blocks, 0);
  out.rest_sum.assign(fine ? blocks : 0, 0);
  std::ranges::copy(x, out.x.begin());
  std::fill(out.x.begin() + static_cast<std::ptrdiff_t>(form.cols), out.x.end(), 0.0f);
  if (form.rotation != nullptr) {
    form.rotation->hadamard.rotate(std::span(out.x).first(form.cols), form.rotation->factors);
  }
  if (form.floats) return;
  const InputOps& ops =
      choose(scalar::kInputOps, avx2::kInputOps, avx512::kInputOps, avx512vbmi::kInputOps);
  const auto largest_of = linalg::vector_ops().largest_magnitude;
  const float all = form.scale_by_block ? 0 : largest_of(out.x.data(), out.x.size());
  for (std::size_t b = 0; b < blocks; ++b) {
    const float* const block = out.x.data() + b * kBlock;
    const float largest = form.scale_by_block ? largest_of(block, kBlock) : all;
    out.scale[b] = std::isfinite(largest) ? largest / 127 : std::numeric_limits<float>::quiet_NaN();
    if (!(largest > kLeast && std::isfinite(largest))) continue;
    std::int8_t* const q = out.q.data() + b * kBlock;
    out.sum[b] = ops.round_block(block, 127 / largest, q);
    if (!fine) continue;
    out.rest_sum[b] = ops.round_rest(block, 127 / largest, q, out.rest.data() + b * kBlock);
  }
}

std::size_t Kernel::run_rows(int threads) const {
  const std::size_t runs = kRunsPerThread * static_cast<std::size_t>(threads);
  const std::size_t rows = std::max((rows_ + runs - 1) / runs, kLeastRunWeights / form_.cols);
  return (rows + row_step_ - 1) / row_step_ * row_step_;
}

std::unique_ptr<const Kernel> make_kernel(std::shared_ptr<const quant::Packed> packed) {
  const std::string& method = packed->spec.method();
  if (method == "aqlm") return aqlm_kernel(std::move(packed));
  if (method.starts_with("int")) return int_kernel(std::move(packed));
  if (method == "quip") return quip_kernel(std::move(packed));
  if (method == "trellis") return trellis_kernel(std::move(packed));
  if (method == "vptq") return vptq_kernel(std::move(packed));
  return nullptr;
}

void multiply(std::span<const Product> products, std::span<const float> x, ThreadPool& pool) {
  thread_local Scratch kept;
  Scratch& scratch = kept;  // the caller's, in all threads
  scratch.inputs.forms.clear();
  scratch.runs.clear();
  scratch.runs_left.assign(products.size(), 0);
  scratch.tables.resize(std::max(scratch.tables.size(), products.size()));
  const bool fine =
      std::ranges::any_of(products, [](const Product& p) { return p.kernel->fine(); });
  for (std::size_t p = 0; p < products.size(); ++p) {
    const Kernel& kernel = *products[p].kernel;
    assert(products[p].y.size() == kernel.rows());
    const std::size_t input = scratch.inputs.find(
        kernel.form(), [&](Input& made) { make_input(kernel.form(), x, fine, made); });
    kernel.tabulate(scratch.inputs.values[input], scratch.tables[p]);
    const std::size_t run = kernel.run_rows(pool.size());
    for (std::size_t begin = 0; begin < kernel.rows(); begin += run) {
      scratch.runs.push_back({p, input, begin, std::min(kernel.rows(), begin + run)});
      ++scratch.runs_left[p];
    }
  }
  pool.run(scratch.runs.size(), [&](std::size_t i) {
    const Run& run = scratch.runs[i];
    const auto& [kernel, y] = products[run.product];
    kernel->multiply(scratch.inputs.values[run.input], scratch.tables[run.product], run.begin,
                     run.end, y.data());
    // Whoever has a product's last rows rotates it: another run would cost its hand-over.
    const std::atomic_ref left(scratch.runs_left[run.product]);
    if (left.fetch_sub(1) == 1 && kernel->output() != nullptr) {
      kernel->output()->hadamard.unrotate(y, kernel->output()->factors);
    }
  });
}

}  // namespace squish::kernels
