#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "squish/base/error.h"
#include "tests/io/writers.h"

/// A fuzz target is a file here with one function, which is given any bytes and may throw nothing:
/// libFuzzer calls it (`./fuzz.sh`, build/fuzz), and so does replay.cc with the files of
/// tests/fuzz/corpus/TARGET (all other builds). What is accepted has to hold together.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace squish::fuzz {

/// Of this process; in memory where the system has such a place. Goes when the process ends.
inline const io::testing::TemporaryDirectory& directory() {
  const std::filesystem::path memory = "/dev/shm";
  static const io::testing::TemporaryDirectory made(
      std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path());
  return made;
}

inline const std::filesystem::path& folder() { return directory().path(); }

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// The file `name` of folder(), now with these bytes.
inline std::filesystem::path put(const char* name, std::string_view bytes) {
  return directory().write(name, bytes);
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
