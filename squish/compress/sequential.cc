#include "squish/compress/sequential.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <memory>
#include <string>

#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/compress/calibration.h"
#include "squish/linalg/solve.h"

namespace squish::compress {
namespace {

using model::Half;
using model::LayerInput;

constexpr std::size_t kLinearsOfBlock = 7;
// Of linear_names() in a block, the first with each input, and the half of the block it is in.
constexpr std::size_t kFirst[] = {0, 3, 4, 6};
constexpr LayerInput kInputs[] = {LayerInput::qkv, LayerInput::o, LayerInput::gate_up,
                                  LayerInput::down};
constexpr Half kHalves[] = {Half::attention, Half::feed_forward};
constexpr std::size_t kEndOfHalf[] = {4, 7};

constexpr const char* kEmbedding = "model.embed_tokens.weight";

// Relative to the mean of H's diagonal: where x̂ hardly varies, what (x - x̂) seems to owe it is
// chance.
constexpr double kRidge = 0.01;

std::unique_ptr<model::Linear>& linear_at(model::Layer& layer, std::size_t index) {
  std::unique_ptr<model::Linear>* const all[] = {&layer.q,    &layer.k,  &layer.v,   &layer.o,
                                                 &layer.gate, &layer.up, &layer.down};
  return *all[index];
}

std::unique_ptr<model::Linear> dense(Matrix weights) {
  return model::dense_linear(std::make_shared<const Matrix>(std::move(weights)));
}

/// Times (H + ridge)⁻¹; empty where all is zero, or no ridge up to the mean of the diagonal makes H
/// invertible.
Matrix regressed(const linalg::SymmetricMatrix& second, std::span<double> on, Team& team,
                 ThreadPool& pool) {
  if (std::ranges::all_of(on, [](double value) { return value == 0; })) return {};
  const std::size_t n = second.size(), rows = on.size() / n;
  const RowRuns runs{1, &team};
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += second(i, i) / static_cast<double>(n);
  for (double ridge = kRidge; ridge <= 1; ridge *= 10) {
    linalg::SquareMatrix h = linalg::expand(second);
    for (std::size_t i = 0; i < n; ++i) h(i, i) += ridge * mean;
    if (!linalg::solve_right(h, on, runs, pool)) continue;
    Matrix found(rows, n);
    std::transform(on.begin(), on.end(), found.data(),
                   [](double value) { return static_cast<float>(value); });
    runs.merge(rows, std::span(found.data(), found.size()));
    return found;
  }
  return {};
}

}  // namespace

SequentialInputs::SequentialInputs(const io::ModelFiles& files, std::span<const Window> windows,
                                   Compressed compressed, std::filesystem::path folder, Team& team,
                                   ThreadPool& pool)
    : files_(files),
      windows_(windows),
      compressed_(std::move(compressed)),
      folder_(std::move(folder)),
      team_(team),
      pool_(pool),
      names_(io::linear_names(files.config)),
      original_{{}, {folder_, "original", windows, files.config.hidden}},
      own_{{}, {folder_, "own", windows, files.config.hidden}},
      cache_(one_block(files.config), longest(windows)) {
  assert(names_.size() == kLinearsOfBlock * files.config.layers);
}

/// Shared out; done on all ranks when it returns on one.
void SequentialInputs::for_each_part(const std::function<void(std::size_t part)>& body) {
  const auto work = [&](std::size_t part) {
    body(part);
    return std::string();
  };
  team_.share(original_.hidden.parts().size(), work, [](std::size_t, int, const std::string&) {});
  team_.broadcast("");
}

/// Whether both streams' files of a part are there.
bool SequentialInputs::holds(std::size_t half, std::size_t part) const {
  return original_.hidden.holds(half, part) && own_.hidden.holds(half, part);
}

/// Both streams to the furthest half up to `most` that files have them at, or to the first.
void SequentialInputs::start(std::size_t most) {
  is_started_ = true;
  const auto lies_at = [&](std::size_t half) {
    for (std::size_t part = 0; part < original_.hidden.parts().size(); ++part) {
      if (!holds(half, part)) return false;
    }
    return true;
  };
  if (team_.leads()) {
    halves_ = most;
    while (halves_ > 0 && !lies_at(halves_)) --halves_;
    for (std::size_t half = 0; half < 2 * files_.config.layers; ++half) {
      // Of the next there may be some parts.
      if (half == halves_ || (half == halves_ + 1 && half <= most)) continue;
      for (Stream* const stream : {&original_, &own_}) stream->hidden.remove(half);
    }
  }
  halves_ = std::stoul(team_.broadcast(std::to_string(halves_)));
  if (halves_ == 0) embed_text();
  installed_ = halves_ / 2 * kLinearsOfBlock + (halves_ % 2 == 0 ? 0 : kEndOfHalf[0]);
  for (Stream* const stream : {&original_, &own_}) load_block(*stream);
}

void SequentialInputs::embed_text() {
  const model::Embedding original = model::stored_embedding(files_, pool_);
  model::Embedding own = original;
  if (std::optional<Matrix> weights = compressed_(kEmbedding)) {
    own = model::dense_embedding(std::make_shared<const Matrix>(std::move(*weights)));
  }
  const auto embed = [&](std::size_t part) {
    if (holds(0, part)) return;
    const WindowRange& range = original_.hidden.parts()[part];
    for (const auto& [stream, embedding] : {std::pair{&original_, &original}, {&own_, &own}}) {
      std::vector<Matrix> hidden;
      for (std::size_t w = range.begin; w < range.end; ++w) {
        hidden.push_back(model::embed(*embedding, windows_[w]));
      }
      stream->hidden.write(0, part, hidden);
    }
  };
  for_each_part(embed);
}

/// The block that the streams are at, from the model.
void SequentialInputs::load_block(Stream& stream) {
  const std::size_t block = halves_ / 2;
  stream.block = {};  // before the next is there
  if (block == files_.config.layers) return;
  const auto linear = [&](const std::string& name) {
    return dense(model::load_weights(files_, name, pool_));
  };
  stream.block = model::build_block(files_, block, linear, pool_);
}

/// Our stream's linear layers before `end` become what they were compressed to.
void SequentialInputs::install(std::size_t end) {
  for (; installed_ < end; ++installed_) {
    std::optional<Matrix> weights = compressed_(names_[installed_]);
    if (!weights) continue;
    linear_at(own_.block.layers.front(), installed_ % kLinearsOfBlock) = dense(std::move(*weights));
  }
}

/// Both streams, one half of a block further.
void SequentialInputs::advance() {
  const std::size_t half = halves_ % 2;
  install(halves_ / 2 * kLinearsOfBlock + kEndOfHalf[half]);
  const auto run = [&](std::size_t part) {
    if (holds(halves_ + 1, part)) return;
    for (Stream* const stream : {&original_, &own_}) {
      std::vector<Matrix> hidden = stream->hidden.read(halves_, part);
      for (Matrix& window : hidden) {
        stop_if_interrupted();
        model::run_half(stream->block, 0, kHalves[half], window, cache_, pool_);
      }
      stream->hidden.write(halves_ + 1, part, hidden);
    }
  };
  for_each_part(run);
  for (Stream* const stream : {&original_, &own_}) {
    if (team_.leads()) stream->hidden.remove(halves_);
  }
  ++halves_;
  if (halves_ % 2 == 0) {
    load_block(original_);
    load_block(own_);
  }
}

/// Of no token, of this input's sizes.
SequentialSums SequentialInputs::no_sums(LayerInput input) const {
  const io::ModelConfig& c = files_.config;
  switch (input) {
    case LayerInput::o:
      return {c.heads * c.head_dim, c.hidden};
    case LayerInput::down:
      return {c.intermediate, c.hidden};
    default:
      return {c.hidden, 0};
  }
}

SequentialSums SequentialInputs::measure_part(LayerInput input, std::size_t part) {
  std::vector<Matrix> original = original_.hidden.read(halves_, part),
                      own = own_.hidden.read(halves_, part);
  const auto given = [&](const Stream& stream, const Matrix& hidden) {
    return model::layer_input(stream.block, 0, input, hidden, cache_, pool_);
  };
  SequentialSums sums = no_sums(input);
  for (std::size_t i = 0; i < own.size(); ++i) {
    stop_if_interrupted();
    Matrix x = given(original_, original[i]);
    const bool to_stream = sums.stream > 0;
    sums.add(std::move(x), given(own_, own[i]), to_stream ? std::move(original[i]) : Matrix(),
             to_stream ? own[i].view() : ConstMatrixView(), pool_);
  }
  return sums;
}

/// Of the whole text. Several ranks leave the parts' sums, then their sum, in files, which a job
/// that was stopped, of however many ranks, takes from there.
SequentialSums SequentialInputs::sums_of(LayerInput input) {
  namespace fs = std::filesystem;
  const bool is_shared = team_.size() > 1;
  const std::string stem = fmt::format("sums-{}-{}", halves_, static_cast<int>(input));
  const fs::path all = folder_ / stem;
  const auto file = [&](std::size_t part) { return folder_ / fmt::format("{}-{}", stem, part); };
  SequentialSums sums = no_sums(input);
  const bool is_there = !team_.broadcast(fs::exists(all) ? "there" : "").empty();
  if (team_.leads()) {  // all ranks are here, and with other inputs done
    std::vector<fs::path> others;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("sums-") && !name.starts_with(stem)) others.push_back(entry.path());
    }
    for (const fs::path& other : others) fs::remove(other);
  }
  if (is_there) return read_sums(all, sums.width, sums.stream, true);
  std::size_t next = 0;
  std::optional<SequentialSums> made;
  const std::string left = "left";
  const auto work = [&](std::size_t part) {
    made.reset();  // before the next is there
    if (fs::exists(file(part))) return left;
    made = measure_part(input, part);
    if (is_shared) write_sums(file(part), *made);
    return std::string();
  };
  std::map<std::size_t, bool> summed;  // not yet: whether an earlier job left the part
  const auto collect = [&](std::size_t part, int, const std::string& said) {
    summed[part] = said == left;
    for (; !summed.empty() && summed.begin()->first == next; ++next) {
      const bool was_left = summed.begin()->second;
      summed.erase(summed.begin());
      if (!is_shared && !was_left) {
        sums.add(*made);
        continue;
      }
      sums.add(read_sums(file(next), sums.width, sums.stream, was_left));
    }
  };
  team_.share(original_.hidden.parts().size(), work, collect);
  made.reset();
  if (!is_shared) return sums;
  if (team_.leads()) write_sums(all, sums);
  team_.broadcast("");
  if (!team_.leads()) sums = read_sums(all, sums.width, sums.stream, false);
  return sums;
}

SequentialInput SequentialInputs::measure(LayerInput input) {
  SequentialSums sums = sums_of(input);
  const std::size_t block = halves_ / 2;
  const std::string& name = names_[block * kLinearsOfBlock + kFirst[static_cast<int>(input)]];
  if (sums.tokens == 0) {
    fail("{}: no activation at the input of {} is finite", files_.path.string(), name);
  }
  const double share = 1 / static_cast<double>(sums.tokens);
  SequentialInput found;
  const auto products = std::make_shared<const AlignedVector<double>>(std::move(sums.products));
  found.moments.second = {sums.width, *products, share, products};
  for (const double sum : sums.sum) found.moments.mean.push_back(share * sum);
  for (auto* const values : {&sums.shift, &sums.residual}) {
    for (double& value : *values) value *= share;
  }
  found.correction = regressed(found.moments.second, sums.shift, team_, pool_);
  sums.shift = {};
  found.residual = regressed(found.moments.second, sums.residual, team_, pool_);
  return found;
}

SequentialInput SequentialInputs::at(const std::string& linear) {
  const auto index = static_cast<std::size_t>(std::ranges::find(names_, linear) - names_.begin());
  assert(index < names_.size());
  const std::size_t block = index / kLinearsOfBlock, within = index % kLinearsOfBlock;
  std::size_t input = 0;
  while (input + 1 < std::size(kFirst) && kFirst[input + 1] <= within) ++input;
  const std::size_t half = 2 * block + input / 2;
  assert(halves_ <= half);
  if (!is_started_) start(half);
  while (halves_ < half) advance();
  install(block * kLinearsOfBlock + kFirst[input]);
  return measure(kInputs[input]);
}

std::size_t sequential_memory(const io::ModelFiles& files, std::span<const Window> windows) {
  const io::ModelConfig& c = files.config;
  const std::size_t part = largest_part(windows.size());
  const std::size_t window = longest(windows), attention = c.heads * c.head_dim,
                    kv = c.kv_heads * c.head_dim, width = std::max(c.intermediate, c.hidden);
  const std::size_t hidden = 2 * part * window * c.hidden * sizeof(float);
  const std::size_t cache = 2 * window * kv * sizeof(float);
  const std::size_t blocks =
      2 * c.hidden * (2 * attention + 2 * kv + 3 * c.intermediate) * sizeof(float);
  const std::size_t pass =
      window * (2 * c.hidden + 2 * attention + 2 * kv + 2 * c.intermediate) * sizeof(float);
  const std::size_t inputs = 2 * window * width * sizeof(float);
  // Of a part, of all, and (the first of several ranks) of one that is read, of the input's
  // triangle, of its square, and of the stream's rows; then what is factored of H and what comes of
  // it take the place of the part's.
  const std::size_t sums =
      3 * sizeof(double) * (linalg::triangle_size(width) + width * width + c.hidden * width);
  return hidden + cache + blocks + pass + inputs + sums;
}

}  // namespace squish::compress
