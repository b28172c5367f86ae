#include "squish/evaluate/throughput.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <initializer_list>

#include "squish/model/sampler.h"

namespace squish::evaluate {
namespace {

constexpr std::size_t kPrompt = 16, kPrefill = 512, kMaxRuns = 3;

/// `body` returns tokens per second of one run.
Timing repeat(double budget_seconds, const std::function<double()>& body) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<double> rates;
  double spent = 0;
  do {
    rates.push_back(body());
    spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } while (rates.size() < kMaxRuns &&
           spent + spent / static_cast<double>(rates.size()) < budget_seconds);
  return summarise(std::move(rates));
}

double rate(std::size_t tokens, std::chrono::steady_clock::time_point since) {
  return static_cast<double>(tokens) /
         std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

std::vector<model::TokenId> any_tokens(std::size_t count, std::size_t vocab) {
  std::vector<model::TokenId> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<model::TokenId>((7919 * i + 100) % vocab);
  }
  return tokens;
}

}  // namespace

std::size_t weight_bytes(const model::Transformer& model) {
  std::size_t bytes = model.head->weight_bytes();
  for (const model::Layer& layer : model.layers) {
    for (const auto* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      bytes += (*linear)->weight_bytes();
    }
  }
  return bytes;
}

Throughput measure_throughput(const model::Transformer& model, std::size_t tokens,
                              double read_bandwidth_gbs, ThreadPool& pool, model::KvElement kv) {
  const std::size_t limit = model.config.max_context, vocab = model.config.vocab;
  const auto prompt = any_tokens(std::min(kPrompt, std::max<std::size_t>(1, limit / 2)), vocab);
  const auto prefill = any_tokens(std::min(kPrefill, limit), vocab);
  tokens = std::min(tokens, limit - prompt.size());

  Throughput result;
  for (const model::Layer& layer : model.layers) {
    if (layer.q->kernel() != nullptr) result.fused = true;
  }
  {
    model::KvCache cache(model.config, prefill.size(), kv);
    Matrix logits(1, vocab);
    result.prefill_tps = repeat(3, [&] {
      cache.clear();
      const auto start = std::chrono::steady_clock::now();
      const Matrix states = model::forward(model, prefill, cache, pool);
      model::logits(model, states.view().row_range(prefill.size() - 1, prefill.size()), logits,
                    pool);
      return rate(prefill.size(), start);
    });
  }
  model::KvCache cache(model.config, prompt.size() + tokens, kv);
  model::Generator generator(model, cache, pool);
  Matrix logits(1, vocab);
  double cache_bytes = 0;
  result.tps = repeat(6, [&] {
    cache.clear();
    cache_bytes = 0;
    model::Sampler greedy({});
    const Matrix states = model::forward(model, prompt, cache, pool);
    model::logits(model, states.view().row_range(prompt.size() - 1, prompt.size()), logits, pool);
    model::TokenId next = greedy.pick(logits.row(0));
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < tokens; ++i) {
      cache_bytes += static_cast<double>(cache.bytes()) / static_cast<double>(tokens);
      model::logits(model, generator.next(next), logits, pool);
      next = greedy.pick(logits.row(0));
    }
    return rate(tokens, start);
  });
  result.bytes_per_token = static_cast<double>(weight_bytes(model)) + cache_bytes;
  result.bandwidth_fraction =
      result.bytes_per_token * result.tps.median / (1e9 * read_bandwidth_gbs);
  return result;
}

}  // namespace squish::evaluate
