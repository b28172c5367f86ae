#include "squish/compress/prepared_inputs.h"

namespace squish::compress {

const quant::InputMoments* PreparedInputs::moments(const std::string& tensor) {
  if (calibration_ == nullptr) return nullptr;
  const std::string input = io::input_name(tensor);
  if (!calibration_->inputs.contains(input)) return nullptr;  // an embedding
  if (input != input_ || !moments_) {
    prepared_.clear();
    moments_.reset();  // before the next is there
    moments_ = calibration_->moments(tensor);
    input_ = input;
  }
  return &*moments_;
}

const quant::Prepared* PreparedInputs::prepared(const std::string& tensor,
                                                const quant::Spec& spec) {
  const quant::InputMoments* const found = moments(tensor);
  if (found == nullptr) return nullptr;
  const quant::Method& method = quant::find_method(spec.method());
  std::string values;
  for (const std::string& key : method.prepare_keys) values += spec.word(key) + ",";
  auto [at, is_new] = prepared_.try_emplace({method.prepare, values});
  if (is_new) at->second = quant::prepare(*found, spec, pool_, seed_, input_);
  return at->second.get();
}

}  // namespace squish::compress
