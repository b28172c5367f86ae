#include "squish/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace squish::model {
namespace {

/// theta^(-2i / d).
double base_frequency(double theta, std::size_t i, std::size_t head_dim) {
  return std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
}

/// "NTK by parts": a ramp over the dimensions between those that turn beta_fast and beta_slow times
/// within the original context.
class YarnRamp {
 public:
  YarnRamp(const io::Rope& rope, double original, std::size_t head_dim) : factor_(rope.factor) {
    const auto d = static_cast<double>(head_dim);
    const auto dimension = [&](double rotations) {
      return d * std::log(original / (rotations * 2 * std::numbers::pi)) /
             (2 * std::log(rope.theta));
    };
    low_ = std::max(std::floor(dimension(rope.beta_fast)), 0.0);
    high_ = std::min(std::ceil(dimension(rope.beta_slow)), d - 1);
    if (low_ == high_) high_ += 0.001;
  }

  double operator()(double frequency, std::size_t i) const {
    const double ramp = std::clamp((static_cast<double>(i) - low_) / (high_ - low_), 0.0, 1.0);
    return frequency / factor_ * ramp + frequency * (1 - ramp);
  }

 private:
  double factor_, low_ = 0, high_ = 0;
};

float yarn_amplitude(const io::Rope& rope) {
  if (rope.attention_factor > 0) return static_cast<float>(rope.attention_factor);
  return rope.factor > 1 ? static_cast<float>(0.1 * std::log(rope.factor) + 1) : 1.0f;
}

}  // namespace

RopeFrequencies rope_frequencies(const io::ModelConfig& config, std::size_t length) {
  using Scaling = io::Rope::Scaling;
  const io::Rope& rope = config.rope;
  const std::size_t head_dim = config.head_dim, half = head_dim / 2;
  const double original =
      rope.original_context > 0 ? rope.original_context : static_cast<double>(config.max_context);
  const bool divided = !rope.frequency_divisors.empty();
  double theta = rope.theta;
  if (rope.scaling == Scaling::dynamic_ntk && !divided) {
    const double stretch = std::max(static_cast<double>(length), original) / original;
    const auto d = static_cast<double>(head_dim);
    theta *= std::pow(rope.factor * stretch - (rope.factor - 1), d / (d - 2));
  }
  const YarnRamp yarn(rope, original, head_dim);

  RopeFrequencies result;
  for (std::size_t i = 0; i < half; ++i) {
    double frequency = base_frequency(theta, i, head_dim);
    if (divided) {
      frequency /= rope.frequency_divisors[i];
    } else if (rope.scaling == Scaling::linear) {
      frequency /= rope.factor;
    } else if (rope.scaling == Scaling::llama3) {
      frequency *= io::llama3_scale(rope, original * frequency / (2 * std::numbers::pi));
    } else if (rope.scaling == Scaling::yarn) {
      frequency = yarn(frequency, i);
    }
    result.radians.push_back(static_cast<float>(frequency));
  }
  if (rope.scaling == Scaling::yarn) result.amplitude = yarn_amplitude(rope);
  return result;
}

void RopeTable::fill(const io::ModelConfig& config, std::size_t first) {
  const bool depend_on_length = config.rope.scaling == io::Rope::Scaling::dynamic_ntk;
  if (frequencies.radians.empty() || depend_on_length) {
    frequencies = rope_frequencies(config, first + cos.rows());
  }
  for (std::size_t t = 0; t < cos.rows(); ++t) {
    const auto position = static_cast<float>(first + t);
    for (std::size_t i = 0; i < cos.cols(); ++i) {
      const float angle = position * frequencies.radians[i];  // f32, as the models were trained
      cos(t, i) = frequencies.amplitude * std::cos(angle);
      sin(t, i) = frequencies.amplitude * std::sin(angle);
    }
  }
}

}  // namespace squish::model
