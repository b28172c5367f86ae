#pragma once
#include <filesystem>

#include "squish/io/model_files.h"

namespace squish::io {

/// Writes tokenizer.json, tokenizer_config.json and generation_config.json as Hugging Face's
/// libraries read them, from what GGUF metadata say. SentencePiece's scores become a list of
/// merges: for each token, by falling score, all pairs of tokens that make it up.
void write_hf_tokenizer(const TokenizerData& data, const std::filesystem::path& directory);

}  // namespace squish::io
