#include "squish/evaluate/weights.h"

#include <fmt/ranges.h>

#include <filesystem>
#include <vector>

#include "squish/base/error.h"
#include "squish/io/architecture.h"
#include "squish/io/gguf.h"
#include "squish/io/safetensors.h"
#include "squish/quant/quantizer.h"

namespace squish::evaluate {
namespace {

io::TensorTable read_table(const std::filesystem::path& file) {
  if (file.extension() == ".gguf") {
    io::GgufFile gguf = io::read_gguf(file);
    io::mark_interleaved_rows(gguf);
    return std::move(gguf.table);
  }
  io::TensorTable table;
  io::read_safetensors(file, table);
  return table;
}

/// The one matrix of a file.
std::string only_matrix(const io::TensorTable& table, const std::string& file) {
  constexpr std::size_t kShown = 3;
  std::vector<std::string> names;
  for (const auto& [name, tensor] : table.tensors) {
    if (tensor.shape.size() >= 2) names.push_back(name);
  }
  if (names.size() == 1) return names.front();
  if (names.empty()) fail("{}: holds no matrix", file);
  const std::size_t count = names.size();
  names.resize(std::min(count, kShown));
  fail("{}: holds {} matrices, expected FILE:TENSOR that names one of them, such as {}", file,
       count, fmt::join(names, ", "));
}

}  // namespace

WeightsPath split_weights_path(const std::string& where) {
  // A path may hold colons of its own.
  std::error_code error;
  if (const std::size_t colon = where.rfind(':');
      colon != std::string::npos && !std::filesystem::exists(where, error)) {
    return {where.substr(0, colon), where.substr(colon + 1)};
  }
  return {where, ""};
}

NamedWeights load_weights(const std::string& where, ThreadPool& pool) {
  auto [file, name] = split_weights_path(where);
  const io::TensorTable table = read_table(file);
  if (name.empty()) name = only_matrix(table, file);
  for (const auto& [own, tensor] : table.tensors) {
    if (!table.contains(name) && io::hf_name(own) == name) name = own;
  }
  const io::Tensor& tensor = table.at(name);
  NamedWeights named{name, io::read_matrix(tensor, pool), io::is_quantized(tensor.type)};
  try {
    quant::check_weights(named.weights);
  } catch (const Error& error) {
    fail("{}: tensor '{}': {}", file, name, error.what());
  }
  return named;
}

}  // namespace squish::evaluate
