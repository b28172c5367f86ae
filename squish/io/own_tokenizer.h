#pragma once
#include <filesystem>

#include "squish/io/model_files.h"

/// squish_tokenizer.json (docs/format.md): a tokenizer that came from GGUF metadata, as our own
/// data rather than in Hugging Face's terms.
namespace squish::io {

inline constexpr const char* kTokenizerFile = "squish_tokenizer.json";

void write_own_tokenizer(const TokenizerData& data, const std::filesystem::path& path);
TokenizerData read_own_tokenizer(const std::filesystem::path& path);

}  // namespace squish::io
