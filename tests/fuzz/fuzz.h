#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "squish/base/error.h"

/// A fuzz target is a file here with one function, which is given any bytes and may throw nothing:
/// libFuzzer calls it (`./fuzz.sh`, build/fuzz), and so does replay.cc with the files of
/// tests/fuzz/corpus/TARGET (all other builds). What is accepted has to hold together.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace squish::fuzz {

/// Of this process; in memory where the system has such a place. Goes when the process ends.
inline const std::filesystem::path& folder() {
  struct Folder {
    std::filesystem::path path;
    Folder() {
      const std::filesystem::path memory = "/dev/shm";
      std::string name =
          ((std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path()) /
           "squish-fuzz-XXXXXX")
              .string();
      if (::mkdtemp(name.data()) == nullptr) std::abort();
      path = name;
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };
  static const Folder made;
  return made.path;
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// The file `name` of folder(), now with these bytes.
inline std::filesystem::path put(const char* name, std::string_view bytes) {
  std::filesystem::path path = folder() / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

/// Whether `read` took it: what is wrong gets an Error, and one sentence.
template <class Read>
bool accepts(const Read& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    const std::string_view sentence = error.what();
    if (sentence.empty()) std::abort();
    return false;
  }
}

/// Ends the process, as a finding.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace squish::fuzz
