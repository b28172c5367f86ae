#include "squish/base/isa.h"

#include <atomic>
#include <cstdlib>

#include "squish/base/error.h"

namespace squish {
namespace {

constexpr Isa kAll[] = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512vbmi};

bool has(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      // No CPU with AVX2 lacks F16C, which Clang 14 cannot ask for.
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi2");
    case Isa::avx512:
      return has(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    case Isa::avx512vbmi:
      return has(Isa::avx512) && __builtin_cpu_supports("avx512vbmi") &&
             __builtin_cpu_supports("gfni");
  }
  return false;
}

Isa initial() {
  if (const char* wish = std::getenv("SQUISH_ISA"); wish != nullptr && *wish != '\0') {
    const Isa isa = parse_isa(wish);
    if (!has(isa)) fail_usage("SQUISH_ISA={}: this CPU does not have it", wish);
    return isa;
  }
  return available_isas().back();
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa = initial();
  return isa;
}

}  // namespace

std::vector<Isa> available_isas() {
  std::vector<Isa> list;
  for (const Isa isa : kAll) {
    if (has(isa)) list.push_back(isa);
  }
  return list;
}

Isa active_isa() { return current().load(std::memory_order_relaxed); }

void set_isa(Isa isa) {
  if (!has(isa)) fail_usage("instruction set {}: this CPU does not have it", to_string(isa));
  current().store(isa, std::memory_order_relaxed);
}

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::avx512vbmi:
      return "avx512vbmi";
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "scalar";
  }
}

Isa parse_isa(std::string_view name) {
  for (const Isa isa : kAll) {
    if (name == to_string(isa)) return isa;
  }
  fail_usage("instruction set '{}': expected scalar, avx2, avx512 or avx512vbmi", name);
}

std::string_view backend_name() {
  switch (active_isa()) {
    case Isa::avx512vbmi:
      return "cpp-avx512vbmi";
    case Isa::avx512:
      return "cpp-avx512";
    case Isa::avx2:
      return "cpp-avx2";
    default:
      return "cpp-scalar";
  }
}

}  // namespace squish
