#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "squish/evaluate/model_bench.h"
#include "squish/evaluate/reconstruction.h"
#include "squish/evaluate/row.h"

/// Results as Markdown tables, with the columns of metrics.md.
namespace squish::report {

/// Cells padded to the width of their column, the first column left-aligned and the others right.
/// Every row has as many cells as there are titles; '|' in a cell is escaped.
std::string markdown_table(const std::vector<std::string>& titles,
                           const std::vector<std::vector<std::string>>& rows);

/// What belongs below every table whose source was itself quantised (metrics.md, 'On a model').
inline constexpr std::string_view kQuantisedSource =
    "\nThe source is itself quantised: it was decoded and counts as uncompressed. Affine 4-bit "
    "grids look better on it than they are; no claim is made here against affine types of 4.5 "
    "bits or more.\n";

/// The table of stage 1. Below it, one line for each row that failed.
std::string matrix_table(std::span<const evaluate::Row<evaluate::MatrixResult>> rows);

/// The table of stage 2. Below it what belongs to every figure: protocol, tokens and digest of the
/// text, the noise floor, what the speeds are those of, whether the
/// source was itself quantised; then the rows that failed.
/// `passage` is null where no text was there.
std::string model_table(const evaluate::ModelBench& bench, const evaluate::Passage* passage,
                        bool source_quantized);

}  // namespace squish::report
