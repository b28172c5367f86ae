#include "squish/compress/model.h"

#include "squish/base/error.h"

namespace squish::compress {

PackedModel compress_model(
    const io::ModelFiles& files, const quant::Spec& spec, std::uint64_t seed, ThreadPool& pool,
    const std::function<void(const std::string& name, std::size_t weights)>& done) {
  PackedModel model;
  for (const std::string& name : io::linear_names(files.config)) {
    const Matrix weights = io::read_matrix(files.table.at(name), pool);
    try {
      model[name] = std::make_shared<const quant::Packed>(
          quant::quantize(weights, spec, {.pool = pool, .seed = seed, .key = name}));
    } catch (const Error& error) {
      fail("{}: tensor {}: {}", files.path.string(), name, error.what());
    }
    done(name, weights.size());
  }
  return model;
}

}  // namespace squish::compress
