#include "squish/compress/model.h"

#include "squish/base/error.h"
#include "squish/compress/prepared_inputs.h"

namespace squish::compress {

PackedModel compress_model(
    const io::ModelFiles& files, const quant::Spec& spec, std::uint64_t seed,
    const io::Calibration* calibration, ThreadPool& pool,
    const std::function<void(const std::string& name, std::size_t weights)>& done) {
  PackedModel model;
  PreparedInputs inputs(calibration, seed, pool);
  for (const std::string& name : io::linear_names(files.config)) {
    const Matrix weights = io::read_matrix(files.table.at(name), pool);
    try {
      if (calibration != nullptr && !calibration->inputs.contains(io::input_name(name))) {
        fail("{}: nothing is known of its input", calibration->path.string());
      }
      model[name] = std::make_shared<const quant::Packed>(quant::quantize(
          weights, spec,
          {.pool = pool, .seed = seed, .key = name, .prepared = inputs.prepared(name, spec)}));
    } catch (const Error& error) {
      fail("{}: tensor {}: {}", files.path.string(), name, error.what());
    }
    done(name, weights.size());
  }
  return model;
}

}  // namespace squish::compress
