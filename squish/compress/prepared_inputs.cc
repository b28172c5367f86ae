#include "squish/compress/prepared_inputs.h"

namespace squish::compress {

PrepareKey prepare_key(const quant::Spec& spec) {
  const quant::Method& method = quant::find_method(spec.method());
  std::string values;
  for (const std::string& key : method.prepare_keys) values += spec.word(key) + ",";
  return {method.prepare, values};
}

PreparedInputs::PreparedInputs(const io::Calibration* calibration, std::uint64_t seed,
                               ThreadPool& pool)
    : PreparedInputs(
          [calibration](const std::string& tensor) -> std::optional<quant::InputMoments> {
            if (calibration == nullptr) return {};
            if (!calibration->inputs.contains(io::input_name(tensor))) return {};  // an embedding
            return calibration->moments(tensor);
          },
          seed, pool) {}

void PreparedInputs::release() {
  prepared_.clear();
  moments_.reset();
  input_.clear();
}

const quant::InputMoments* PreparedInputs::moments(const std::string& tensor) {
  const std::string input = io::input_name(tensor);
  if (input != input_) {
    release();  // before the next is there
    input_ = input;
    moments_ = source_(tensor);
  }
  return moments_ ? &*moments_ : nullptr;
}

const quant::Prepared* PreparedInputs::prepared(const std::string& tensor,
                                                const quant::Spec& spec) {
  const quant::InputMoments* const found = moments(tensor);
  if (found == nullptr) return nullptr;
  auto [at, is_new] = prepared_.try_emplace(prepare_key(spec));
  if (is_new) at->second = quant::prepare(*found, spec, pool_, seed_, input_);
  return at->second.get();
}

}  // namespace squish::compress
