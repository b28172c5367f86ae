#include "squish/compress/shared.h"

#include <set>

#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/base/progress.h"
#include "squish/quant/shared_codebooks.h"

namespace squish::compress {
namespace {

std::vector<float> importance_of(const PlannedTensor& tensor, const io::Calibration* calibration) {
  std::vector<float> importance;
  if (calibration == nullptr || !tensor.linear) return importance;
  const linalg::SymmetricMatrix second = calibration->moments(tensor.name).second;
  for (std::size_t j = 0; j < second.size(); ++j) {
    importance.push_back(static_cast<float>(second(j, j)));
  }
  return importance;
}

}  // namespace

io::SharedSections learn_shared(const io::ModelFiles& files, const Plan& plan,
                                const io::Calibration* calibration, std::uint64_t seed, bool quiet,
                                ThreadPool& pool) {
  std::set<std::string> names;
  for (const PlannedTensor& tensor : plan.compressed) {
    if (!tensor.shared.empty()) names.insert(tensor.shared);
  }
  io::SharedSections sections;
  if (names.empty()) return sections;
  Progress progress("codebooks", static_cast<double>(names.size()), quiet);
  for (const std::string& name : names) {
    std::vector<const PlannedTensor*> tensors;
    std::size_t weights = 0;
    for (const PlannedTensor& tensor : plan.compressed) {
      if (tensor.shared != name) continue;
      tensors.push_back(&tensor);
      weights += tensor.rows * tensor.cols;
    }
    quant::SharedTraining training(tensors.front()->spec, weights, name, seed, pool);
    for (const PlannedTensor* tensor : tensors) {
      stop_if_interrupted();
      progress.advance(0, tensor->name);
      try {
        training.add(io::read_matrix(files.table.at(tensor->name), pool),
                     importance_of(*tensor, calibration), tensor->name);
      } catch (const Error& error) {
        fail("{}: tensor {}: {}", files.path.string(), tensor->name, error.what());
      }
    }
    sections[name] = training.learn();
    progress.advance(1, name);
  }
  return sections;
}

}  // namespace squish::compress
