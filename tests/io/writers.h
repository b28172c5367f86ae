#pragma once
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "squish/base/error.h"

/// Writers for small GGUF and safetensors files, right ones and wrong ones, that the tests of
/// squish/io/ read back.
namespace squish::io::testing {

/// A directory of its own, removed with everything in it.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(
      const std::filesystem::path& in = std::filesystem::temp_directory_path()) {
    std::string name = (in / "squish-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) fail("{}: cannot be made", name);
    path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    const auto file = path_ / name;
    std::filesystem::remove(file);  // file systems sync on truncation, which is slow
    std::ofstream(file, std::ios::binary) << content;
    return file;
  }

 private:
  std::filesystem::path path_;
};

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline std::string floats_as_bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

/// What `action` complains about; a failure that is not a squish::Error passes through.
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// GGUF value types (the format's own numbers).
enum GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

inline std::string gguf_string(std::string_view text) {
  return raw<std::uint64_t>(text.size()) + std::string(text);
}

/// Collects metadata and tensors; all fields are open, so that tests can write nonsense.
struct GgufWriter {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t extra_tensors = 0, extra_pairs = 0;  // claimed but not there
  std::size_t alignment = 32;                        // what is written, whatever the metadata say

  GgufWriter& pair(std::string_view key, GgufType type, std::string value) {
    pairs_.push_back(gguf_string(key) + raw<std::uint32_t>(type) + std::move(value));
    return *this;
  }
  GgufWriter& u32(std::string_view key, std::uint32_t v) { return pair(key, kU32, raw(v)); }
  GgufWriter& f32(std::string_view key, float v) { return pair(key, kF32, raw(v)); }
  GgufWriter& text(std::string_view key, std::string_view v) {
    return pair(key, kString, gguf_string(v));
  }
  GgufWriter& array(std::string_view key, GgufType element, std::uint64_t count,
                    const std::string& elements) {
    return pair(key, kArray, raw<std::uint32_t>(element) + raw(count) + elements);
  }

  /// `shape` innermost first, as the format has it.
  GgufWriter& tensor(std::string_view name, const std::vector<std::uint64_t>& shape,
                     std::uint32_t type, const std::string& data) {
    return tensor_at(name, shape, type, data_.size(), data);
  }
  GgufWriter& tensor_at(std::string_view name, const std::vector<std::uint64_t>& shape,
                        std::uint32_t type, std::uint64_t offset, const std::string& data) {
    std::string info = gguf_string(name) + raw(static_cast<std::uint32_t>(shape.size()));
    for (const std::uint64_t size : shape) info += raw(size);
    infos_.push_back(info + raw(type) + raw(offset));
    data_ += data;
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }

  std::string build() const {
    std::string file = magic + raw(version) + raw<std::uint64_t>(infos_.size() + extra_tensors) +
                       raw<std::uint64_t>(pairs_.size() + extra_pairs);
    for (const auto& pair : pairs_) file += pair;
    for (const auto& info : infos_) file += info;
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data_;
  }

 private:
  std::vector<std::string> pairs_, infos_;
  std::string data_;
};

inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return raw<std::uint64_t>(header.size()) + header + data;
}

/// F32 tensors in the order in which they are added.
struct SafetensorsWriter {
  nlohmann::json header = nlohmann::json::object();
  std::string data;

  SafetensorsWriter& tensor(const std::string& name, const std::vector<std::size_t>& shape,
                            const std::string& bytes, const char* dtype = "F32") {
    header[name] = {{"dtype", dtype},
                    {"shape", shape},
                    {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
    return *this;
  }
  std::string build() const { return safetensors_bytes(header.dump(), data); }
};

}  // namespace squish::io::testing
