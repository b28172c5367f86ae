// Calls a fuzz target with each file of a folder, then for so many seconds with changed ones:
// replay FOLDER SECONDS. A short blind search, for where there is no libFuzzer, the same each time
// but for $SQUISH_FUZZ_SEED; the last input is left in fuzz_TARGET.input where it did not return.
#include <algorithm>
#include <chrono>
#include <iterator>
#include <random>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

using Inputs = std::vector<std::string>;

void call(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

Inputs read(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  Inputs inputs;
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);
    call(inputs.back());
  }
  return inputs;
}

/// One of the inputs with a few bytes flipped, set, left out or doubled, or cut, or the head of one
/// and the tail of another.
std::string changed(const Inputs& inputs, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::string input = inputs[below(inputs.size())];
  for (std::size_t left = 1 + below(4); left > 0; --left) {
    if (input.empty()) return input;
    const std::size_t at = below(input.size());
    const std::size_t size = 1 + below(std::min<std::size_t>(16, input.size() - at));
    switch (below(7)) {
      case 0:
        input[at] = static_cast<char>(input[at] ^ 1 << below(8));
        break;
      case 1:
        input[at] = static_cast<char>(random());
        break;
      case 2:
        std::fill_n(input.begin() + static_cast<std::ptrdiff_t>(at), size,
                    below(2) == 0 ? '\xff' : '0');
        break;
      case 3:
        input.erase(at, size);
        break;
      case 4:
        input.insert(at, input.substr(at, size));
        break;
      case 5:
        input.resize(at);
        break;
      case 6:
        const std::string& other = inputs[below(inputs.size())];
        input = input.substr(0, at) + other.substr(std::min(at, other.size()));
        break;
    }
  }
  return input;
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) return 2;
  const Inputs inputs = read(words[1]);
  if (inputs.empty()) return 1;
  const char* const given = std::getenv("SQUISH_FUZZ_SEED");
  std::mt19937_64 random(given != nullptr ? std::strtoul(given, nullptr, 10) : 1);
  const std::filesystem::path last = std::filesystem::path(words[0]).filename().string() + ".input";
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atol(words[2]));
  std::size_t calls = 0;
  for (; std::chrono::steady_clock::now() < end; ++calls) {
    const std::string input = changed(inputs, random);
    std::ofstream(last, std::ios::binary) << input;
    call(input);
  }
  std::filesystem::remove(last);
  std::printf("%zu changed inputs\n", calls);
  return 0;
}
