#include "squish/io/digest.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "squish/base/error.h"
#include "squish/base/file.h"

namespace squish::io {
namespace {

constexpr std::size_t kDigits = 64;            // of a SHA-256
constexpr std::size_t kBeginning = 64 * 1024;  // bytes

/// Of at most so many of its bytes, or of each of its sections'.
std::string digest_of(const Tensor& tensor, std::size_t most) {
  const auto digest = [&](std::span<const std::byte> bytes) {
    return sha256(bytes.first(std::min(most, bytes.size())));
  };
  if (tensor.packed == nullptr) return digest(tensor.bytes);
  std::string all = tensor.packed->spec;
  for (const StoredSection& section : tensor.packed->sections) {
    all += fmt::format(" {} {}", section.name, digest(section.bytes));
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

/// Those of tensors `first`, `first + step`, ... are made; the others' digests are zeros.
std::string digests_of(const std::vector<const Tensor*>& tensors, std::size_t first,
                       std::size_t step, std::size_t most, ThreadPool& pool) {
  std::string digests(tensors.size() * kDigits, '\0');
  if (first >= tensors.size()) return digests;
  pool.run((tensors.size() - first + step - 1) / step, [&](std::size_t i) {
    const std::size_t t = first + i * step;
    digest_of(*tensors[t], most).copy(digests.data() + t * kDigits, kDigits);
  });
  return digests;
}

std::string digest_of(const ModelFiles& files, const std::vector<const Tensor*>& tensors,
                      std::string_view digests) {
  std::string lines;
  for (const Tensor* const tensor : tensors) {
    lines += fmt::format("{} {} {} {} {}\n", tensor->name, to_string(tensor->type),
                         fmt::join(tensor->shape, "x"), tensor->interleaved_head_rows,
                         digests.substr(0, kDigits));
    digests.remove_prefix(kDigits);
  }
  return sha256(lines + config_line(files.config));
}

}  // namespace

std::string model_digest(const ModelFiles& files, ThreadPool& pool, Team* team) {
  std::vector<const Tensor*> tensors;
  for (const auto& [name, tensor] : files.table.tensors) tensors.push_back(&tensor);
  constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
  if (team == nullptr || team->size() == 1) {
    return digest_of(files, tensors, digests_of(tensors, 0, 1, kAll, pool));
  }
  const std::string own = digest_of(files, tensors, digests_of(tensors, 0, 1, kBeginning, pool));
  if (team->broadcast(own) != own) {
    fail("{}: expected the model that the first rank has, found another", files.path.string());
  }
  std::string digests = digests_of(tensors, static_cast<std::size_t>(team->rank()),
                                   static_cast<std::size_t>(team->size()), kAll, pool);
  team->merge(std::as_writable_bytes(std::span(digests)));
  return digest_of(files, tensors, digests);
}

}  // namespace squish::io
