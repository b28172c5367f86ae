#pragma once
#include <filesystem>

#include "squish/io/gguf.h"
#include "squish/io/model_files.h"

/// What a tokenizer needs, out of the two containers. Kind::none where the files carry no
/// tokenizer; Error where they carry one that is malformed or of an unknown kind.
namespace squish::io {

/// The metadata keys tokenizer.*.
TokenizerData read_tokenizer(const GgufFile& file);

/// tokenizer.json, tokenizer_config.json and generation_config.json of a Hugging Face directory;
/// squish_tokenizer.json where a checkpoint has one.
TokenizerData read_tokenizer(const std::filesystem::path& hf_directory);

}  // namespace squish::io
