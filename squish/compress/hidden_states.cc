#include "squish/compress/hidden_states.h"

#include <cstring>
#include <utility>

#include "squish/base/error.h"
#include "squish/io/safetensors.h"

namespace squish::compress {

namespace fs = std::filesystem;

HiddenStates::HiddenStates(fs::path folder, std::string stem, std::span<const Window> windows,
                           std::size_t width)
    : folder_(std::move(folder)),
      stem_(std::move(stem)),
      windows_(windows),
      width_(width),
      parts_(parts_of(windows.size())) {}

fs::path HiddenStates::file(std::size_t stage, std::size_t part) const {
  return folder_ / fmt::format("{}-{}-{}", stem_, stage, part);
}

bool HiddenStates::holds(std::size_t stage, std::size_t part) const {
  return fs::exists(file(stage, part));
}

std::vector<Matrix> HiddenStates::read(std::size_t stage, std::size_t part) const {
  const io::SafetensorsFile stored = io::read_safetensors_file(file(stage, part));
  std::vector<Matrix> hidden;
  for (std::size_t w = parts_[part].begin; w < parts_[part].end; ++w) {
    Matrix& window = hidden.emplace_back(windows_[w].size(), width_);
    const io::Tensor& tensor =
        stored.table.at(std::to_string(w), io::DType::F32, {window.rows(), window.cols()});
    stored.check_sum(tensor);
    if (window.size() > 0) std::memcpy(window.data(), tensor.bytes.data(), tensor.bytes.size());
  }
  return hidden;
}

void HiddenStates::write(std::size_t stage, std::size_t part,
                         std::span<const Matrix> hidden) const {
  std::vector<io::StoredTensor> tensors;
  std::map<std::string, std::string> digests;
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    const Matrix& window = hidden[i];
    tensors.push_back({std::to_string(parts_[part].begin + i),
                       io::DType::F32,
                       {window.rows(), window.cols()},
                       std::as_bytes(std::span(window.data(), window.size()))});
    digests[tensors.back().name] = sha256(tensors.back().bytes);
  }
  io::write_safetensors(file(stage, part), tensors, digests);
}

void HiddenStates::remove(std::size_t stage) const {
  for (std::size_t part = 0; part < parts_.size(); ++part) fs::remove(file(stage, part));
}

}  // namespace squish::compress
