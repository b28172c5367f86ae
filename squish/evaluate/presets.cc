#include "squish/evaluate/presets.h"

#include <algorithm>
#include <string>

#include "squish/base/error.h"

namespace squish::evaluate {

Preset parse_preset(std::string_view name) {
  if (name == "fast") return Preset::fast;
  if (name == "high-fidelity") return Preset::high_fidelity;
  fail_usage("preset '{}': expected fast or high-fidelity", name);
}

std::size_t preset_size(Preset preset) { return preset == Preset::fast ? 64 : 4096; }

namespace {

// 2 x 8 bits for 8 weights want codebooks of 2 x 256 vectors, more bits than 64 x 64 weights have.
constexpr const char *kSmallAqlm = "aqlm:m=2,b=4,g=4", *kAqlm = "aqlm:m=2,b=8,g=8";

std::vector<quant::Spec> table(const char* aqlm, const char* trellis_variant) {
  std::vector<quant::Spec> specs;
  for (const char* const text : {"int4:sym=0,g=64", "int4:sym=0,g=64,clip=mse", "int4:sym=1,g=64",
                                 "vptq:v=8,k=16,r=4", "vptq:v=8,k=256,r=16", aqlm, "quip:form=gain",
                                 "quip:bits=2", "quip:bits=3", "quip:bits=4"}) {
    specs.push_back(quant::Spec::parse(text));
  }
  for (const char* const text : {"trellis:bits=2", "trellis:bits=3", "trellis:bits=4"}) {
    specs.push_back(quant::Spec::parse(std::string(text) + trellis_variant));
  }
  return specs;
}

}  // namespace

std::vector<quant::Spec> preset_specs(Preset preset) {
  return table(preset == Preset::fast ? kSmallAqlm : kAqlm, "");
}

std::vector<quant::Spec> model_specs() { return table(kAqlm, ",code=fast"); }

std::vector<quant::Spec> parse_specs(std::string_view text) {
  std::vector<quant::Spec> specs;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(';', start), text.size());
    if (end == start) fail_usage("methods '{}': expected 'SPEC;SPEC', found an empty spec", text);
    specs.push_back(quant::Spec::parse(text.substr(start, end - start)));
    start = end + 1;
  }
  return specs;
}

}  // namespace squish::evaluate
