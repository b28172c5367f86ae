#pragma once
#include <vector>

#include "squish/linalg/symmetric.h"

namespace squish::quant {

/// What calibration knows of a layer's input x (a vector of `cols` activations): the metric in
/// which the error of its weights counts, since E|(W - Ŵ) x|² = tr((W - Ŵ) H (W - Ŵ)ᵀ).
struct InputMoments {
  linalg::SymmetricMatrix second;  ///< H = E[x xᵀ], cols x cols; often in a mapped file
  std::vector<double> mean;        ///< E[x], cols; what a method that corrects biases would need
};

}  // namespace squish::quant
