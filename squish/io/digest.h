#pragma once
#include <string>

#include "squish/base/team.h"
#include "squish/base/threads.h"
#include "squish/io/model_files.h"

namespace squish::io {

/// SHA-256 of what a model computes: all tensors by name with type, shape and bytes, and the
/// configuration; neither paths nor the tokenizer. Reads all of the model: of several ranks, each a
/// share; Error on one whose tensors do not begin as the first rank's do.
std::string model_digest(const ModelFiles& files, ThreadPool& pool, Team* team = nullptr);

}  // namespace squish::io
