#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/kernels/kernel.h"

/// Y = X Whatᵀ for several tokens: some rows of What at a time, a panel, are decoded into cache and
/// multiplied by all tokens.
namespace squish::kernels {

/// What panels are multiplied by: OpenBLAS in f32, or BF16 with sums in f32 by AVX512-BF16 or AMX.
/// Each rounding to BF16 is of 8 bits and costs next to nothing (docs/performance.md).
enum class PanelPath { f32, bf16, amx };

/// What this CPU (and operating system) can run within active_isa(), in ascending order.
std::vector<PanelPath> available_panel_paths();

/// The best available, unless the environment variable SQUISH_PANELS says "f32", "bf16" or "amx":
/// UsageError if that is not available.
PanelPath panel_path();

std::string_view to_string(PanelPath path);

/// A matrix by a kernel that has decode(), and where its product goes: a row a token.
struct PanelProduct {
  const Kernel* kernel;
  MatrixView y;
};

/// All products with x, a row a token, sharing its forms. The results do not depend on the number
/// of threads.
void multiply(std::span<const PanelProduct> products, ConstMatrixView x, ThreadPool& pool);

/// y = x Wᵀ for weights that are decoded already.
void multiply(ConstMatrixView x, ConstMatrixView weights, MatrixView y, ThreadPool& pool);

}  // namespace squish::kernels
