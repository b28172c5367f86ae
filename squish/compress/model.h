#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "squish/base/threads.h"
#include "squish/io/calibration.h"
#include "squish/io/model_files.h"
#include "squish/quant/quantizer.h"

namespace squish::compress {

/// The linear layers of a model, quantised, by tensor name. Everything else stays as it is in the
/// source (metrics.md, 'On a model').
using PackedModel = std::map<std::string, std::shared_ptr<const quant::Packed>>;

/// Quantises every tensor of io::linear_names() by `spec`, one after the other, each shared out
/// over the pool; random streams are keyed by tensor name. `calibration`, of this model, may be
/// null. `done(name, weights)` is called after each. An Error names file and tensor.
PackedModel compress_model(
    const io::ModelFiles& files, const quant::Spec& spec, std::uint64_t seed,
    const io::Calibration* calibration, ThreadPool& pool,
    const std::function<void(const std::string& name, std::size_t weights)>& done);

}  // namespace squish::compress
