#include "squish/evaluate/perplexity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <exception>
#include <map>
#include <new>
#include <numeric>

#include "squish/base/error.h"
#include "squish/base/isa.h"
#include "squish/model/divergence.h"

namespace squish::evaluate {

namespace {

constexpr std::size_t kPositions = 128;  // whose logits are held at a time

/// Scores up to kPositions successive positions: first the reference's logits, then those of each
/// candidate. Results go to elements `at` and following of the scores.
class ChunkScorer {
 public:
  ChunkScorer(std::size_t vocab, ThreadPool& pool)
      : pool_(pool), scaled_(kPositions, vocab), scratch_(kPositions, vocab) {}

  void reference(ConstMatrixView logits, std::span<const model::TokenId> targets, std::size_t at,
                 Scores& scores) {
    logits_ = logits;
    distributions_.resize(logits.rows);
    pool_.run(logits.rows, [&](std::size_t i) {
      const model::Distribution one = model::distribution(logits.row(i), scaled_.row(i));
      if (one.finite) scores.nll[at + i] = one.log_sum - logits(i, targets[i]);
      distributions_[i] = one;
    });
    for (const model::Distribution& one : distributions_) scores.not_finite += one.finite ? 0 : 1;
  }

  void candidate(ConstMatrixView logits, std::span<const model::TokenId> targets, std::size_t at,
                 Scores& scores) {
    std::vector<std::uint8_t> finite(logits.rows);
    pool_.run(logits.rows, [&](std::size_t i) {
      const model::Distribution own = model::distribution(logits.row(i), scratch_.row(i));
      const model::Distribution& wanted = distributions_[i];
      finite[i] = own.finite && wanted.finite;
      if (!finite[i]) return;
      scores.nll[at + i] = own.log_sum - logits(i, targets[i]);
      scores.agrees[at + i] = own.likeliest == wanted.likeliest;
      scores.kld[at + i] =
          model::divergence(logits_.row(i), scaled_.row(i), wanted, logits.row(i), own);
    });
    scores.not_finite += static_cast<std::size_t>(std::count(finite.begin(), finite.end(), 0));
  }

 private:
  ThreadPool& pool_;
  Matrix scaled_, scratch_;
  ConstMatrixView logits_;                          // the reference's
  std::vector<model::Distribution> distributions_;  // and what they mean
};

/// Room for the scores of `count` positions.
void make_room(Scores& scores, std::size_t count, bool is_reference) {
  scores.nll.resize(count);
  if (is_reference) return;
  scores.kld.resize(count);
  scores.agrees.resize(count);
}

/// A model that failed once is left out from there on.
void append(const Scores& window, Scores& scores) {
  if (scores.error.empty()) scores.error = window.error;
  if (!scores.error.empty()) return;
  const auto add = [](const auto& from, auto& to) {
    to.insert(to.end(), from.begin(), from.end());
  };
  add(window.nll, scores.nll);
  add(window.kld, scores.kld);
  add(window.agrees, scores.agrees);
  scores.not_finite += window.not_finite;
}

/// As other ranks send them; all run the same program.
std::string to_bytes(std::span<const Scores> all) {
  std::string bytes;
  const auto add = [&](const auto& values) {
    const std::uint64_t size = values.size();
    bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
    bytes.append(reinterpret_cast<const char*>(values.data()), size * sizeof values[0]);
  };
  for (const Scores& one : all) {
    add(one.nll);
    add(one.kld);
    add(one.agrees);
    add(one.error);
    add(std::array{one.not_finite});
  }
  return bytes;
}

std::vector<Scores> from_bytes(const std::string& bytes, std::size_t count) {
  std::size_t at = 0;
  const auto take = [&](auto& values) {
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data() + at, sizeof size);
    values.resize(size);
    std::memcpy(values.data(), bytes.data() + at + sizeof size, size * sizeof values[0]);
    at += sizeof size + size * sizeof values[0];
  };
  std::vector<Scores> all(count);
  std::vector<std::size_t> not_finite;
  for (Scores& one : all) {
    take(one.nll);
    take(one.kld);
    take(one.agrees);
    take(one.error);
    take(not_finite);
    one.not_finite = not_finite[0];
  }
  return all;
}

/// A model's final hidden states at the scored positions of one window.
Matrix scored_states(const model::Transformer& model, std::span<const model::TokenId> window,
                     std::size_t first_scored, ThreadPool& pool) {
  model::KvCache cache(model.config, window.size(), model.kv);
  const Matrix states = model::forward(model, window, cache, pool);
  const std::size_t count = window.size() - 1 - first_scored, width = states.cols();
  Matrix scored(count, width);
  std::copy_n(states.data() + first_scored * width, count * width, scored.data());
  return scored;
}

/// All models on one window after the other.
class WindowScorer {
 public:
  WindowScorer(const model::Transformer& reference,
               std::span<const model::Transformer* const> candidates, const Passage& passage,
               ThreadPool& pool, const std::function<void()>& done)
      : reference_(reference),
        candidates_(candidates),
        passage_(passage),
        pool_(pool),
        done_(done),
        chunks_(reference.config.vocab, pool),
        reference_logits_(kPositions, reference.config.vocab),
        logits_(kPositions, reference.config.vocab),
        left_out_(candidates.size()) {}

  void leave_out(std::size_t candidate) { left_out_[candidate] = true; }

  /// Element 0 is the reference's. A candidate that fails says so, once.
  std::vector<Scores> score(std::size_t w) {
    const std::span<const model::TokenId> window = passage_.windows[w];
    const std::size_t count = passage_.scored_per_window();
    std::vector<Scores> scores(1 + candidates_.size());
    const Matrix reference_states = scored_states(reference_, window, passage_.first_scored, pool_);
    make_room(scores[0], count, true);
    done_();
    std::vector<Matrix> states(candidates_.size());
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      Scores& own = scores[i + 1];
      if (left_out_[i]) continue;
      try {
        states[i] = scored_states(*candidates_[i], window, passage_.first_scored, pool_);
        make_room(own, count, false);
      } catch (const std::bad_alloc&) {
        own.error = "out of memory";
      } catch (const std::exception& error) {
        own.error = error.what();
      }
      left_out_[i] = !own.error.empty();
      done_();
    }
    for (std::size_t begin = 0; begin < count; begin += kPositions) {
      const std::size_t end = std::min(count, begin + kPositions);
      const auto targets = window.subspan(passage_.first_scored + 1 + begin, end - begin);
      const MatrixView wanted = reference_logits_.view().row_range(0, end - begin),
                       logits = logits_.view().row_range(0, end - begin);
      model::logits(reference_, reference_states.view().row_range(begin, end), wanted, pool_);
      chunks_.reference(wanted, targets, begin, scores[0]);
      for (std::size_t i = 0; i < candidates_.size(); ++i) {
        if (left_out_[i]) continue;
        model::logits(*candidates_[i], states[i].view().row_range(begin, end), logits, pool_);
        chunks_.candidate(logits, targets, begin, scores[i + 1]);
      }
    }
    return scores;
  }

 private:
  const model::Transformer& reference_;
  std::span<const model::Transformer* const> candidates_;
  const Passage& passage_;
  ThreadPool& pool_;
  const std::function<void()>& done_;
  ChunkScorer chunks_;
  Matrix reference_logits_, logits_;
  std::vector<bool> left_out_;
};

struct Moments {
  double mean = 0, standard_error = 0;
};

/// Of `count` values; the standard error of one value alone is NaN.
template <class Value>
Moments moments(std::size_t count, const Value& value) {
  const auto n = static_cast<double>(count);
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < count; ++i) sum += value(i);
  const double mean = sum / n;
  for (std::size_t i = 0; i < count; ++i) squares += (value(i) - mean) * (value(i) - mean);
  return {mean, count < 2 ? std::nan("") : std::sqrt(squares / (n - 1) / n)};
}

}  // namespace

std::vector<Scores> score(const model::Transformer& reference,
                          std::span<const model::Transformer* const> candidates,
                          const Passage& passage, ThreadPool& pool,
                          const std::function<void()>& done, std::vector<Scores> begun,
                          const std::function<void(std::span<const Scores>)>& keep, Team* team) {
  for (const model::Transformer* candidate : candidates) {
    if (candidate->config.vocab != reference.config.vocab) {
      fail("a vocabulary of {} tokens cannot be compared with the reference's {}",
           candidate->config.vocab, reference.config.vocab);
    }
  }
  const std::size_t count = passage.scored_per_window();
  std::vector<Scores> scores = std::move(begun);
  scores.resize(1 + candidates.size());
  const std::size_t known = scores[0].nll.size();
  for (const Scores& own : std::span(scores).subspan(1)) {
    if (own.error.empty() && (own.nll.size() != known || own.kld.size() != known)) {
      fail("the scores to go on from are not of the same windows");
    }
  }
  Team alone;
  if (team == nullptr) team = &alone;
  const std::size_t first = std::stoul(team->broadcast(std::to_string(known / count)));
  WindowScorer scorer(reference, candidates, passage, pool, done);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (!scores[i + 1].error.empty()) scorer.leave_out(i);
  }
  std::map<std::size_t, std::vector<Scores>> waiting;  // for windows before them
  std::size_t next = 0;
  const auto work = [&](std::size_t i) { return to_bytes(scorer.score(first + i)); };
  const auto collect = [&](std::size_t i, int rank, const std::string& bytes) {
    for (std::size_t m = 0; m < scores.size() && rank != 0; ++m) done();  // said of this process's
    waiting[i] = from_bytes(bytes, scores.size());
    for (auto at = waiting.find(next); at != waiting.end(); at = waiting.find(++next)) {
      for (std::size_t m = 0; m < scores.size(); ++m) append(at->second[m], scores[m]);
      waiting.erase(at);
      if (keep) keep(scores);
    }
  };
  team->share(passage.windows.size() - first, work, collect);
  return scores;
}

Quality summarise(const Scores& scores, const Scores* reference) {
  if (!scores.error.empty()) fail("{}", scores.error);
  const std::size_t count = scores.nll.size();
  if (scores.not_finite > 0) {
    fail("{} of {} scored positions have logits that are not finite", scores.not_finite, count);
  }
  const Moments nll = moments(count, [&](std::size_t i) { return scores.nll[i]; });
  Quality quality{
      .ppl = std::exp(nll.mean), .nll = nll.mean, .nll_se = nll.standard_error, .divergence = {}};
  if (reference == nullptr) return quality;

  const Moments delta =
      moments(count, [&](std::size_t i) { return scores.nll[i] - reference->nll[i]; });
  std::vector<double> sorted = scores.kld;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t rank = (99 * count + 99) / 100;  // ceil(0.99 n), from 1
  quality.divergence = Divergence{
      .delta_nll = delta.mean,
      .delta_nll_se = delta.standard_error,
      .kld_mean = moments(count, [&](std::size_t i) { return scores.kld[i]; }).mean,
      .kld_p99 = sorted[rank - 1],
      .top1_agreement = static_cast<double>(std::accumulate(scores.agrees.begin(),
                                                            scores.agrees.end(), std::size_t{0})) /
                        static_cast<double>(count)};
  return quality;
}

Divergence noise_floor(const model::Transformer& reference, const Passage& passage,
                       ThreadPool& pool) {
  const std::size_t count = std::min(kPositions, passage.scored_per_window());
  const std::size_t first = passage.first_scored, vocab = reference.config.vocab;
  const auto window = std::span(passage.windows.front()).first(first + count + 1);
  Matrix plain(count, vocab), other(count, vocab);
  model::logits(reference, scored_states(reference, window, first, pool), plain, pool);

  const Isa before = active_isa();
  ThreadPool other_pool(pool.size() == 1 ? 2 : 1);
  try {
    set_isa(before == Isa::scalar ? available_isas().back() : Isa::scalar);
    model::logits(reference, scored_states(reference, window, first, other_pool), other,
                  other_pool);
  } catch (...) {
    set_isa(before);
    throw;
  }
  set_isa(before);

  std::vector<Scores> scores(2);
  ChunkScorer scorer(vocab, pool);
  make_room(scores[0], count, true);
  make_room(scores[1], count, false);
  scorer.reference(plain, window.subspan(first + 1), 0, scores[0]);
  scorer.candidate(other, window.subspan(first + 1), 0, scores[1]);
  return *summarise(scores[1], &scores[0]).divergence;
}

}  // namespace squish::evaluate
