#include "squish/evaluate/storage.h"

#include <set>
#include <string>

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
  std::set<std::string> shared;
  for (const std::string& name : io::linear_names(files.config)) {
    const io::Tensor& tensor = files.table.at(name);
    linear.add(tensor);
    if (tensor.packed == nullptr || tensor.packed->shared == nullptr) continue;
    if (shared.insert(tensor.packed->shared_name).second) {
      linear.bytes += tensor.packed->shared->bytes.size();
    }
  }
  for (const auto& [name, tensor] : files.table.tensors) all.add(tensor);
  all.bytes += files.table.shared_bytes();
  return {.bpw_linear = linear.bpw(), .bpw_model = all.bpw(), .file_bytes = files.file_bytes};
}

}  // namespace squish::evaluate
