#include "squish/kernels/panel.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <iterator>

#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "squish/kernels/forms.h"
#include "squish/kernels/panel.isa.h"
#include "squish/linalg/gemm.h"

namespace squish::kernels {

namespace avx512bf16 {
extern const PanelOps kPanelOps;
}
namespace amx {
extern const PanelOps kPanelOps;
}

namespace {

/// Rows that are decoded together: few, so that they stay in some cache, but enough that it costs
/// OpenBLAS little to pack the tokens again for each panel.
constexpr std::size_t kPanelRows = 144, kBf16PanelRows = 96;
constexpr std::size_t kMostKept = std::size_t{16} << 20;  // values of a prompt

/// The kernel of Linux has to be asked before a process may use AMX's tiles.
bool may_use_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

/// By leaf 7 of CPUID, once: virtual machines are left for it. Not every compiler's
/// __builtin_cpu_supports() knows these.
PanelPath best_of_cpu() {
  static const PanelPath best = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a >> 5 & 1) == 0) return PanelPath::f32;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    const bool has_tiles = (d >> 22 & 1) != 0 && (d >> 24 & 1) != 0;
    return has_tiles && may_use_tiles() ? PanelPath::amx : PanelPath::bf16;
  }();
  return best;
}

PanelPath best_path() { return active_isa() == Isa::avx512vbmi ? best_of_cpu() : PanelPath::f32; }

constexpr PanelPath kPaths[] = {PanelPath::f32, PanelPath::bf16, PanelPath::amx};

const PanelOps* panel_ops(PanelPath path) {
  switch (path) {
    case PanelPath::bf16:
      return &avx512bf16::kPanelOps;
    case PanelPath::amx:
      return &amx::kPanelOps;
    default:
      return nullptr;
  }
}

/// A layer's input, rotated if its kernels want that: x, or tiles where a path has loops of ours.
struct Tokens {
  ConstMatrixView x;
  AlignedVector<float> rotated;
  AlignedVector<std::uint16_t> tiles;
};

std::size_t depth_of(std::size_t cols) { return (cols + kPanelDepth - 1) / kPanelDepth; }

void rotate(const Rotation& rotation, ConstMatrixView x, std::size_t begin, std::size_t end,
            float* out) {
  for (std::size_t t = begin; t < end; ++t, out += x.cols) {
    const std::span<float> row(out, x.cols);
    std::ranges::copy(x.row(t), row.data());
    rotation.hadamard.rotate(row, rotation.factors);
  }
}

void make_tokens(const InputForm& form, ConstMatrixView x, const PanelOps* ops, Tokens& out,
                 ThreadPool& pool) {
  const Rotation* const rotation = form.rotation.get();
  if (ops == nullptr) {
    out.x = x;
    if (rotation == nullptr) return;
    out.rotated.resize(std::max(out.rotated.size(), x.rows * x.cols));
    out.x = {out.rotated.data(), x.rows, x.cols};
    parallel_for(pool, x.rows, kPanelTile, [&](std::size_t begin, std::size_t end) {
      rotate(*rotation, x, begin, end, out.rotated.data() + begin * x.cols);
    });
    return;
  }
  const std::size_t depth = depth_of(x.cols);
  const std::size_t tiles = (x.rows + kPanelTile - 1) / kPanelTile * depth;
  out.tiles.resize(std::max(out.tiles.size(), tiles * kPanelTileSize));
  parallel_for(pool, x.rows, kPanelTile, [&](std::size_t begin, std::size_t end) {
    thread_local AlignedVector<float> rotated;
    const float* from = x.row(begin).data();
    std::size_t stride = x.stride;
    if (rotation != nullptr) {
      rotated.resize(std::max(rotated.size(), kPanelTile * x.cols));
      rotate(*rotation, x, begin, end, rotated.data());
      from = rotated.data();
      stride = x.cols;
    }
    ops->pack_tokens(from, end - begin, x.cols, stride,
                     out.tiles.data() + begin / kPanelTile * depth * kPanelTileSize);
  });
}

/// y = x rowsᵀ
void multiply_panel(const PanelOps* ops, ConstMatrixView rows, const Tokens& tokens, MatrixView y) {
  if (ops == nullptr) return linalg::gemm_nt(tokens.x, rows, y);
  thread_local AlignedVector<std::uint16_t> tiles;
  const std::size_t depth = depth_of(rows.cols), step = depth * kPanelTileSize;
  tiles.resize(std::max(tiles.size(), (rows.rows + kPanelTile - 1) / kPanelTile * step));
  std::uint16_t* to = tiles.data();
  for (std::size_t i = 0; i < rows.rows; i += kPanelTile, to += step) {
    ops->pack_rows(rows.row(i).data(), std::min(kPanelTile, rows.rows - i), rows.cols, rows.stride,
                   to);
  }
  ops->multiply(tokens.tiles.data(), y.rows, tiles.data(), rows.rows, depth, y.data, y.stride);
}

MatrixView columns(const MatrixView& y, std::size_t begin, std::size_t end) {
  return {y.data + begin, y.rows, end - begin, y.stride};
}

}  // namespace

std::vector<PanelPath> available_panel_paths() {
  std::vector<PanelPath> paths;
  std::ranges::copy_if(kPaths, std::back_inserter(paths),
                       [](PanelPath path) { return path <= best_path(); });
  return paths;
}

PanelPath panel_path() {
  const char* const wish = std::getenv("SQUISH_PANELS");
  if (wish == nullptr || *wish == '\0') return best_path();
  for (const PanelPath path : kPaths) {
    if (wish != to_string(path)) continue;
    if (path > best_path()) {
      fail_usage("SQUISH_PANELS={}: this CPU, or the instruction set {}, does not have it", wish,
                 to_string(active_isa()));
    }
    return path;
  }
  fail_usage("SQUISH_PANELS={}: expected f32, bf16 or amx", wish);
}

std::string_view to_string(PanelPath path) {
  switch (path) {
    case PanelPath::amx:
      return "amx";
    case PanelPath::bf16:
      return "bf16";
    default:
      return "f32";
  }
}

void multiply(std::span<const PanelProduct> products, ConstMatrixView x, ThreadPool& pool) {
  struct Panel {
    const PanelProduct* product;
    std::size_t input, begin, end, step;
  };
  const PanelOps* const ops = panel_ops(panel_path());
  const std::size_t rows = ops == nullptr ? kPanelRows : kBf16PanelRows;
  thread_local Forms<Tokens> kept;
  auto& inputs = kept;  // the caller's, in all threads
  inputs.forms.clear();
  std::vector<Panel> panels;
  for (const PanelProduct& product : products) {
    const Kernel& kernel = *product.kernel;
    assert(kernel.decodes() && product.y.cols == kernel.rows() && product.y.rows == x.rows);
    const std::size_t at = inputs.find(
        kernel.form(), [&](Tokens& made) { make_tokens(kernel.form(), x, ops, made, pool); });
    const std::size_t step = (rows + kernel.row_step() - 1) / kernel.row_step() * kernel.row_step();
    for (std::size_t begin = 0; begin < kernel.rows(); begin += step) {
      panels.push_back({&product, at, begin, std::min(kernel.rows(), begin + step), step});
    }
  }
  pool.run(panels.size(), [&](std::size_t i) {
    const Panel& panel = panels[i];
    thread_local AlignedVector<float> decoded;
    decoded.resize(std::max(decoded.size(), panel.step * x.cols));
    panel.product->kernel->decode(panel.begin, panel.end, decoded.data());
    multiply_panel(ops, {decoded.data(), panel.end - panel.begin, x.cols},
                   inputs.values[panel.input], columns(panel.product->y, panel.begin, panel.end));
  });
  for (const PanelProduct& product : products) {
    const Rotation* const output = product.kernel->output();
    if (output == nullptr) continue;
    parallel_for(pool, x.rows, 16, [&](std::size_t begin, std::size_t end) {
      for (std::size_t t = begin; t < end; ++t) {
        output->hadamard.unrotate(product.y.row(t), output->factors);
      }
    });
  }
  for (Tokens& tokens : inputs.values) {
    if (tokens.rotated.size() > kMostKept) tokens.rotated = {};
    if (tokens.tiles.size() > kMostKept) tokens.tiles = {};
  }
}

void multiply(ConstMatrixView x, ConstMatrixView weights, MatrixView y, ThreadPool& pool) {
  const PanelOps* const ops = panel_ops(panel_path());
  if (ops == nullptr) return linalg::gemm_nt(x, weights, y, pool);
  Tokens tokens;
  make_tokens({.cols = x.cols}, x, ops, tokens, pool);
  parallel_for(pool, weights.rows, kBf16PanelRows, [&](std::size_t begin, std::size_t end) {
    multiply_panel(ops, weights.row_range(begin, end), tokens, columns(y, begin, end));
  });
}

}  // namespace squish::kernels
