#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "squish/io/tensor.h"

/// GGUF versions 2 and 3, little-endian (github.com/ggml-org/ggml/blob/master/docs/gguf.md). The
/// reader trusts no count and no length of the file.
namespace squish::io {

/// Metadata values: integers widened to 64 bits, floats to double, arrays of scalars or strings.
using GgufValue =
    std::variant<std::int64_t, std::uint64_t, double, bool, std::string, std::vector<std::int64_t>,
                 std::vector<double>, std::vector<bool>, std::vector<std::string>>;

struct GgufFile {
  std::filesystem::path path;
  std::map<std::string, GgufValue, std::less<>> metadata;
  /// Tensors by GGUF name, shape outermost first (GGUF stores it innermost first).
  TensorTable table;

  /// Typed look-ups; Error naming file and key if missing (without fallback) or of another type.
  std::uint64_t unsigned_at(std::string_view key) const;
  std::uint64_t unsigned_or(std::string_view key, std::uint64_t fallback) const;
  double real_or(std::string_view key, double fallback) const;
  bool flag_or(std::string_view key, bool fallback) const;
  const std::string& text_at(std::string_view key) const;
  std::string text_or(std::string_view key, std::string fallback) const;
  /// nullptr if missing; Error if of another type.
  const std::vector<std::string>* texts(std::string_view key) const;
  const std::vector<std::int64_t>* integers(std::string_view key) const;
  const std::vector<double>* reals(std::string_view key) const;
};

GgufFile read_gguf(const std::filesystem::path& path);

}  // namespace squish::io
