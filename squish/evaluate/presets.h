#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "squish/quant/spec.h"

/// What `squish bench` compares when it is not told: the table of metrics.md, 'Specs'.
namespace squish::evaluate {

/// fast: a 64 x 64 matrix, all rows in seconds. high_fidelity: 4096 x 4096, where codebooks and
/// scales weigh what they weigh in a real layer.
enum class Preset { fast, high_fidelity };

/// "fast", "high-fidelity"; UsageError on anything else.
Preset parse_preset(std::string_view name);

/// Rows and columns of the synthetic matrix.
std::size_t preset_size(Preset preset);

/// The specs of the default run in the table's order.
std::vector<quant::Spec> preset_specs(Preset preset);
/// Those for models: the high-fidelity ones, but for the trellis by its fast code.
std::vector<quant::Spec> model_specs();

/// 'SPEC;SPEC': at least one, no empty ones; UsageError otherwise.
std::vector<quant::Spec> parse_specs(std::string_view text);

}  // namespace squish::evaluate
