#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

/// JSON of unknown origin (model files). Used within squish/io only.
namespace squish::io {

/// Parses `text`; `path` is named in errors. Stricter than the standard where leniency would hide
/// a broken or hostile file: repeated keys and nesting deeper than 64 are Errors.
nlohmann::json parse_json(std::string_view text, const std::filesystem::path& path);

/// The whole file, which may have at most `limit` bytes.
nlohmann::json read_json(const std::filesystem::path& path, std::size_t limit);

}  // namespace squish::io
