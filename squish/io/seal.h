#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>

/// What lets `squish verify` find any flipped bit of a checkpoint, also in what squish does not
/// read itself (docs/format.md, "squish.json").
namespace squish::io {

/// The manifest's text with the SHA-256 of every other file that squish wrote of the checkpoint,
/// and its own.
std::string sealed(nlohmann::json manifest, const std::filesystem::path& directory);

/// Whether the checkpoint has a seal; Error naming the first file that is not as it was when it was
/// made, or is missing.
bool check_seal(const std::filesystem::path& directory);

}  // namespace squish::io
