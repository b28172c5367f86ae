#include "squish/evaluate/storage.h"

namespace squish::evaluate {
namespace {

struct Count {
  std::uint64_t bytes = 0, weights = 0;

  void add(const io::Tensor& tensor) {
    bytes += tensor.stored_bytes();
    weights += tensor.elements();
  }
  double bpw() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(weights); }
};

}  // namespace

Storage storage_of(const io::ModelFiles& files) {
  Count linear, all;
  for (const std::string& name : io::linear_names(files.config)) linear.add(files.table.at(name));
  for (const auto& [name, tensor] : files.table.tensors) all.add(tensor);
  return {.bpw_linear = linear.bpw(), .bpw_model = all.bpw(), .file_bytes = files.file_bytes};
}

}  // namespace squish::evaluate
