// A spec, and one in full.
#include "squish/quant/spec.h"

#include "squish/quant/quantizer.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  const std::string text(fuzz::text_of(data, size));
  fuzz::accepts([&] {
    const quant::Spec spec = quant::Spec::parse(text);
    fuzz::require(quant::Spec::parse(spec.full()).full() == spec.full(), "full() is a spec");
    const double bits = quant::find_method(spec.method()).nominal_bpw(spec, 96, 128);
    fuzz::require(bits > 0 && bits < 1e4, "bits are a number");
  });
  return 0;
}
