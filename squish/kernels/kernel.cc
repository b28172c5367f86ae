#include "squish/kernels/kernel.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "squish/base/isa.h"
#include "squish/kernels/input.isa.h"
#include "squish/kernels/methods.h"
#include "squish/linalg/gemm.h"
#include "squish/quant/incoherence.h"

namespace squish::kernels {

SQUISH_DECLARE_TABLES(InputOps, kInputOps);

namespace {

/// Rows that are decoded together for several tokens: few, so that they stay in some cache, but
/// enough that it costs little to pack the tokens again for each panel.
constexpr std::size_t kPanelRows = 144;
constexpr std::size_t kMostKept = std::size_t{16} << 20;  // floats of a prompt
constexpr std::size_t kRunsPerThread = 2, kLeastRunWeights = 16 * 1024;
constexpr float kLeast = 1e-30f;  // magnitude that is told from 0

struct Run {
  const Product* product;
  std::size_t input, tables, begin, end;
};

/// A layer's input in each form that its kernels want it in; buffers are kept.
template <class Value>
struct Forms {
  std::vector<const InputForm*> forms;
  std::vector<Value> values;

  /// Which value is in that form; `make(value)` where none is yet.
  template <class Make>
  std::size_t find(const InputForm& form, const Make& make) {
    const auto found = std::ranges::find_if(forms, [&](auto* f) { return *f == form; });
    const auto at = static_cast<std::size_t>(found - forms.begin());
    if (found != forms.end()) return at;
    forms.push_back(&form);
    if (values.size() <= at) values.emplace_back();
    make(values[at]);
    return at;
  }
};

/// Buffers that are kept from token to token.
struct Scratch {
  Forms<Input> inputs;
  std::vector<Bytes> tables;
  std::vector<Run> runs;
};

template <class Body>
void for_tokens(std::size_t tokens, ThreadPool& pool, const Body& body) {
  parallel_for(pool, tokens, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) body(t);
  });
}

/// Rows of x as a form without rounding has them.
void rotate(const InputForm& form, ConstMatrixView x, AlignedVector<float>& out, ThreadPool& pool) {
  out.resize(std::max(out.size(), x.rows * x.cols));
  for_tokens(x.rows, pool, [&](std::size_t t) {
    const std::span<float> row(out.data() + t * x.cols, x.cols);
    std::ranges::copy(x.row(t), row.data());
    if (form.rotation != nullptr) form.rotation->hadamard.rotate(row, form.rotation->factors);
  });
}

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
  const float all = form.scale_by_block ? 0 : ops.largest(out.x.data(), out.x.size());
  for (std::size_t b = 0; b < blocks; ++b) {
    const float* const block = out.x.data() + b * kBlock;
    const float largest = form.scale_by_block ? ops.largest(block, kBlock) : all;
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
      scratch.runs.push_back({&products[p], input, p, begin, std::min(kernel.rows(), begin + run)});
    }
  }
  pool.run(scratch.runs.size(), [&](std::size_t i) {
    const Run& run = scratch.runs[i];
    run.product->kernel->multiply(scratch.inputs.values[run.input], scratch.tables[run.tables],
                                  run.begin, run.end, run.product->y.data());
  });
  pool.run(products.size(), [&](std::size_t p) {
    const Rotation* const output = products[p].kernel->output();
    if (output != nullptr) output->hadamard.unrotate(products[p].y, output->factors);
  });
}

void multiply(std::span<const Products> products, ConstMatrixView x, ThreadPool& pool) {
  struct Panel {
    const Products* product;
    std::size_t input, begin, end, step;
  };
  thread_local Forms<AlignedVector<float>> kept;
  auto& inputs = kept;  // the caller's, in all threads
  inputs.forms.clear();
  std::vector<Panel> panels;
  for (const Products& product : products) {
    const Kernel& kernel = *product.kernel;
    assert(kernel.decodes() && product.y.cols == kernel.rows() && product.y.rows == x.rows);
    const std::size_t at =
        inputs.find(kernel.form(), [&](auto& made) { rotate(kernel.form(), x, made, pool); });
    const std::size_t step =
        (kPanelRows + kernel.row_step() - 1) / kernel.row_step() * kernel.row_step();
    for (std::size_t begin = 0; begin < kernel.rows(); begin += step) {
      panels.push_back({&product, at, begin, std::min(kernel.rows(), begin + step), step});
    }
  }
  pool.run(panels.size(), [&](std::size_t i) {
    const Panel& panel = panels[i];
    thread_local AlignedVector<float> rows;
    const std::size_t n = panel.end - panel.begin;
    rows.resize(std::max(rows.size(), panel.step * x.cols));
    panel.product->kernel->decode(panel.begin, panel.end, rows.data());
    const MatrixView& y = panel.product->y;
    linalg::gemm_nt(ConstMatrixView(inputs.values[panel.input].data(), x.rows, x.cols),
                    ConstMatrixView(rows.data(), n, x.cols),
                    MatrixView(y.data + panel.begin, y.rows, n, y.stride));
  });
  for (const Products& product : products) {
    const Rotation* const output = product.kernel->output();
    if (output == nullptr) continue;
    for_tokens(x.rows, pool, [&](std::size_t t) {
      output->hadamard.unrotate(product.y.row(t), output->factors);
    });
  }
  for (AlignedVector<float>& input : inputs.values) {
    if (input.size() > kMostKept) input = {};
  }
}

}  // namespace squish::kernels
