#include "squish/io/digest.h"

#include <fmt/ranges.h>

#include "squish/base/file.h"

namespace squish::io {
namespace {

std::string digest_of(const Tensor& tensor) {
  if (tensor.packed == nullptr) return sha256(tensor.bytes);
  std::string all = tensor.packed->spec;
  for (const StoredSection& section : tensor.packed->sections) {
    all += fmt::format(" {} {}", section.name, sha256(section.bytes));
  }
  return sha256(all);
}

std::string config_line(const ModelConfig& c) {
  const Rope& r = c.rope;
  return fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} [{}]\n",
                     to_string(c.family), c.vocab, c.hidden, c.intermediate, c.layers, c.heads,
                     c.kv_heads, c.head_dim, c.max_context, c.norm_eps, c.tied_embeddings,
                     c.sliding_window, r.theta, static_cast<int>(r.scaling), r.factor,
                     r.low_freq_factor, r.high_freq_factor, r.original_context, r.beta_fast,
                     r.beta_slow, r.attention_factor, r.frequency_divisors.size(),
                     fmt::join(r.frequency_divisors, " "));
}

}  // namespace

std::string model_digest(const ModelFiles& files, ThreadPool& pool) {
  std::vector<const Tensor*> tensors;
  for (const auto& [name, tensor] : files.table.tensors) tensors.push_back(&tensor);
  std::vector<std::string> lines(tensors.size());
  pool.run(tensors.size(), [&](std::size_t i) {
    const Tensor& tensor = *tensors[i];
    lines[i] =
        fmt::format("{} {} {} {} {}\n", tensor.name, to_string(tensor.type),
                    fmt::join(tensor.shape, "x"), tensor.interleaved_head_rows, digest_of(tensor));
  });
  return sha256(fmt::format("{}{}", fmt::join(lines, ""), config_line(files.config)));
}

}  // namespace squish::io
