#pragma once
#include <cstdint>

#include "squish/base/threads.h"
#include "squish/compress/plan.h"
#include "squish/io/calibration.h"
#include "squish/io/checkpoint.h"

/// What tensors of a plan share (specs with share=role or share=model).
namespace squish::compress {

/// The codebooks of all PlannedTensor::shared names, learned from the tensors that share them.
/// `calibration` may be null: then all inputs count alike. Deterministic; not resumable.
io::SharedSections learn_shared(const io::ModelFiles& files, const Plan& plan,
                                const io::Calibration* calibration, std::uint64_t seed, bool quiet,
                                ThreadPool& pool);

}  // namespace squish::compress
