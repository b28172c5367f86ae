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

/// InputSums under construction.
struct Accumulator {
  std::uint64_t tokens = 0, dropped = 0;
  AlignedVector<double> sum, products;

  void start(std::size_t width) {
    sum.assign(width, 0);
    products.assign(linalg::triangle_size(width), 0);
  }

  void add(ConstMatrixView x, ThreadPool& pool) {
    std::vector<std::uint8_t> good(x.rows);
    parallel_for(pool, x.rows, 64, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        good[i] = linalg::all_within(x.row(i), kLargestActivation);
      }
    });
    const auto count = static_cast<std::size_t>(std::count(good.begin(), good.end(), 1));
    tokens += count;
    dropped += x.rows - count;
    Matrix kept;  // only where some are not
    if (count < x.rows) {
      kept = Matrix(count, x.cols);
      for (std::size_t i = 0, to = 0; i < x.rows; ++i) {
        if (good[i]) std::copy_n(x.row(i).data(), x.cols, kept.row(to++).data());
      }
      x = kept;
    }
    linalg::add_rows(x, sum, pool);
    linalg::add_outer_products(x, products, pool);
  }
};

/// A linear layer whose inputs are added to `sums`.
class ObservedLinear : public model::Linear {
 public:
  ObservedLinear(std::unique_ptr<Linear> inner, Accumulator& sums)
      : inner_(std::move(inner)), sums_(sums) {}

  std::size_t rows() const override { return inner_->rows(); }
  std::size_t cols() const override { return inner_->cols(); }
  std::size_t weight_bytes() const override { return inner_->weight_bytes(); }
  void apply(ConstMatrixView x, MatrixView y, ThreadPool& pool) const override {
    sums_.add(x, pool);
    inner_->apply(x, y, pool);
  }

 private:
  std::unique_ptr<Linear> inner_;
  Accumulator& sums_;
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

std::string tokens_sha256(std::span<const std::vector<model::TokenId>> windows) {
  std::vector<model::TokenId> all;
  for (const auto& window : windows) all.insert(all.end(), window.begin(), window.end());
  return sha256(std::as_bytes(std::span(all)));
}

struct Calibrator::State {
  ThreadPool& pool;
  model::Transformer model;
  std::map<std::string, Accumulator> sums;  // nodes stay where they are: layers point at them
};

Calibrator::Calibrator(const io::ModelFiles& files, ThreadPool& pool)
    : Calibrator(files, {}, pool) {}

Calibrator::Calibrator(const io::ModelFiles& files, const std::map<std::string, InputSums>& start,
                       ThreadPool& pool)
    : state_(new State{pool, {}, {}}) {
  state_->model = model::build_transformer(
      files, model::load_shared(files, pool), pool, [&](const std::string& name) {
        auto linear = model::dense_linear(
            std::make_shared<const Matrix>(model::load_weights(files, name, pool)));
        if (!observes(name)) return linear;
        Accumulator& sums = state_->sums[input_name(name)];
        sums.start(linear->cols());
        return std::unique_ptr<model::Linear>(
            std::make_unique<ObservedLinear>(std::move(linear), sums));
      });
  for (const auto& [name, from] : start) {
    const auto found = state_->sums.find(name);
    if (found == state_->sums.end() || found->second.sum.size() != from.width) {
      fail("{}: the model has no input '{}' of {} elements, which the calibration has",
           files.path.string(), name, from.width);
    }
    Accumulator& to = found->second;
    to.tokens = from.tokens;
    to.dropped = from.dropped;
    std::copy(from.sum.begin(), from.sum.end(), to.sum.begin());
    std::copy(from.products.begin(), from.products.end(), to.products.begin());
  }
}

Calibrator::~Calibrator() = default;

void Calibrator::add(std::span<const model::TokenId> window) {
  model::KvCache cache(state_->model.config, window.size());
  model::forward(state_->model, window, cache, state_->pool);
}

std::map<std::string, InputSums> Calibrator::sums() const {
  std::map<std::string, InputSums> sums;
  for (const auto& [name, from] : state_->sums) {
    sums[name] = {from.tokens, from.dropped, from.sum.size(), from.sum, from.products, {}, {}, {}};
  }
  return sums;
}

Calibration calibrate(const io::ModelFiles& files,
                      std::span<const std::vector<model::TokenId>> windows, ThreadPool& pool,
                      const std::function<void()>& done) {
  const auto calibrator = std::make_shared<Calibrator>(files, pool);
  for (const auto& window : windows) {
    calibrator->add(window);
    done();
  }
  Calibration calibration;
  calibration.inputs = calibrator->sums();
  for (auto& [name, sums] : calibration.inputs) sums.owner = calibrator;
  return calibration;
}

}  // namespace squish::compress
