#include <cstdio>

#include "squish/base/random.h"
#include "squish/quant/quantizer.h"

int main() {
  const squish::CounterRng rng(1, "weights");
  squish::Matrix weights(64, 128);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights.data()[i] = static_cast<float>(rng.normal(i));
  }
  squish::ThreadPool pool(2);
  const auto spec = squish::quant::Spec::parse("trellis:bits=3,code=fast");
  const auto packed = squish::quant::quantize(weights, spec, {pool, 1, "tensor"});
  std::printf("%.2f bits, %.1f dB\n", packed.bpw(),
              squish::quant::snr_db(weights, squish::quant::dequantize(packed, pool), pool));
}
