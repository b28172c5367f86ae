#include "squish/compress/calibration.h"

#include <algorithm>
#include <utility>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/isa.h"
#include "squish/base/version.h"
#include "squish/linalg/gemm.h"
#include "squish/linalg/outer_product.h"
#include "squish/model/transformer.h"
#include "squish/quant/quantizer.h"

namespace squish::compress {
namespace {

// Beyond it squares and their sums could leave float (quant::kLargestWeight).
constexpr float kLargestActivation = quant::kLargestWeight;

void add_activations(ConstMatrixView x, io::OwnedSums& sums, ThreadPool& pool) {
  std::vector<std::uint8_t> good(x.rows);
  parallel_for(pool, x.rows, 64, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      good[i] = linalg::all_within(x.row(i), kLargestActivation);
    }
  });
  const auto count = static_cast<std::size_t>(std::count(good.begin(), good.end(), 1));
  sums.tokens += count;
  sums.dropped += x.rows - count;
  Matrix kept;  // only where some are not
  if (count < x.rows) {
    kept = Matrix(count, x.cols);
    for (std::size_t i = 0, to = 0; i < x.rows; ++i) {
      if (good[i]) std::copy_n(x.row(i).data(), x.cols, kept.row(to++).data());
    }
    x = kept;
  }
  linalg::add_rows(x, sums.sum, pool);
  linalg::add_outer_products(x, sums.products, pool);
}

/// A linear layer whose inputs are seen first.
class ObservedLinear : public model::Linear {
 public:
  using Observe = std::function<void(ConstMatrixView x, ThreadPool& pool)>;
  ObservedLinear(std::unique_ptr<Linear> inner, Observe observe)
      : inner_(std::move(inner)), observe_(std::move(observe)) {}

  std::size_t rows() const override { return inner_->rows(); }
  std::size_t cols() const override { return inner_->cols(); }
  std::size_t weight_bytes() const override { return inner_->weight_bytes(); }
  void apply(ConstMatrixView x, MatrixView y, ThreadPool& pool) const override {
    observe_(x, pool);
    inner_->apply(x, y, pool);
  }

 private:
  std::unique_ptr<Linear> inner_;
  Observe observe_;
};

/// Of the layers that share an input, the one that observes it.
bool observes(const std::string& linear) {
  return !linear.ends_with(".k_proj.weight") && !linear.ends_with(".v_proj.weight") &&
         !linear.ends_with(".up_proj.weight");
}

}  // namespace

std::string made_by() {
  return fmt::format("squish {} ({}), {}, {}", kVersion, kCommit, to_string(active_isa()),
                     linalg::blas_description());
}

std::string tokens_sha256(std::span<const Window> windows) {
  std::vector<model::TokenId> all;
  for (const auto& window : windows) all.insert(all.end(), window.begin(), window.end());
  return sha256(std::as_bytes(std::span(all)));
}

std::vector<WindowRange> parts_of(std::size_t windows) {
  constexpr std::size_t kMost = 32;
  const std::size_t count = std::min(windows, kMost);
  std::vector<WindowRange> parts;
  for (std::size_t i = 0; i < count; ++i) {
    parts.push_back({windows * i / count, windows * (i + 1) / count});
  }
  return parts;
}

std::size_t largest_part(std::size_t windows) {
  std::size_t largest = 0;
  for (const WindowRange& part : parts_of(windows)) {
    largest = std::max(largest, part.end - part.begin);
  }
  return largest;
}

std::size_t longest(std::span<const Window> windows) {
  std::size_t length = 0;
  for (const Window& window : windows) length = std::max(length, window.size());
  return length;
}

io::ModelConfig one_block(io::ModelConfig config) {
  config.layers = 1;
  return config;
}

BlockCalibrator::BlockCalibrator(const io::ModelFiles& files, std::size_t block, std::size_t most,
                                 ThreadPool& pool)
    : cache_(one_block(files.config), most) {
  const auto observed = [&](const std::string& name) -> std::unique_ptr<model::Linear> {
    auto linear =
        model::dense_linear(std::make_shared<const Matrix>(model::load_weights(files, name, pool)));
    if (!observes(name)) return linear;
    const std::string input = input_name(name);
    return std::make_unique<ObservedLinear>(
        std::move(linear), [this, input](ConstMatrixView x, ThreadPool& threads) {
          add_activations(x, sums_->try_emplace(input, x.cols).first->second, threads);
        });
  };
  block_ = model::build_block(files, block, observed, pool);
  runner_.emplace(block_, cache_, pool);
}

std::map<std::string, InputSums> BlockCalibrator::run(std::span<Matrix> hidden,
                                                      const std::function<void()>& done) {
  const auto sums = std::make_shared<io::SumsOfInputs>();
  sums_ = sums.get();
  for (Matrix& window : hidden) {
    runner_->run(0, 1, window);
    done();
  }
  return io::views_of(sums);
}

}  // namespace squish::compress
