#include "squish/evaluate/storage.h"

#include <algorithm>

#include "squish/base/buffer.h"

namespace squish::evaluate {
namespace {

struct Count {
  std::uint64_t bytes = 0, weights = 0;

  double bpw() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(weights); }
};

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Storage source_storage(const io::ModelFiles& files) {
  Count linear, all;
  for (const std::string& name : io::linear_names(files.config)) {
    const io::Tensor& tensor = files.table.at(name);
    linear.bytes += tensor.stored_bytes();
    linear.weights += tensor.elements();
  }
  for (const auto& [name, tensor] : files.table.tensors) {
    all.bytes += tensor.stored_bytes();
    all.weights += tensor.elements();
  }
  return {.bpw_linear = linear.bpw(), .bpw_model = all.bpw(), .file_bytes = files.file_bytes};
}

Storage packed_storage(const io::ModelFiles& files, const compress::PackedModel& packed) {
  Count linear, all;
  std::uint64_t file_bytes = 0, source_bytes = 0;
  for (const auto& [name, tensor] : files.table.tensors) {
    all.weights += tensor.elements();
    source_bytes += tensor.stored_bytes();
    const auto found = packed.find(name);
    if (found == packed.end()) {
      all.bytes += tensor.stored_bytes();
      if (tensor.packed == nullptr) file_bytes += aligned(tensor.stored_bytes());
      if (tensor.packed != nullptr) {
        for (const auto& section : tensor.packed->sections) {
          file_bytes += aligned(section.bytes.size());
        }
      }
      continue;
    }
    linear.weights += tensor.elements();
    linear.bytes += found->second->bits().total() / 8;
    for (const quant::Section& section : found->second->sections) {
      file_bytes += aligned(section.bytes.size());
    }
  }
  all.bytes += linear.bytes;
  file_bytes += files.file_bytes - std::min(source_bytes, files.file_bytes);
  return {.bpw_linear = linear.bpw(), .bpw_model = all.bpw(), .file_bytes = file_bytes};
}

}  // namespace squish::evaluate
