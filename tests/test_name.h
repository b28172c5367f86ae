#pragma once
#include <cctype>
#include <string>

namespace squish::test {

/// A spec as GoogleTest takes names.
inline std::string test_name(std::string spec) {
  for (char& c : spec) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return spec;
}

}  // namespace squish::test
