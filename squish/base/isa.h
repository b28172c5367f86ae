#pragma once
#include <string_view>
#include <vector>

namespace squish {

/// The instruction sets that hot loops are compiled for, from plainest to best. avx2 means AVX2 +
/// FMA + F16C + BMI2; avx512 means F, BW, DQ, VL and VNNI besides; avx512vbmi means VBMI and GFNI
/// besides.
enum class Isa { scalar, avx2, avx512, avx512vbmi };

/// What this CPU (and operating system) can run, in ascending order; scalar is always there.
std::vector<Isa> available_isas();

/// The one in use: the best available, unless set_isa() or the environment variable SQUISH_ISA
/// says otherwise.
Isa active_isa();

/// Forces one for the rest of the process; not to be called while other threads compute. Throws
/// UsageError if this CPU lacks it.
void set_isa(Isa isa);

std::string_view to_string(Isa isa);
/// "scalar", "avx2", "avx512", "avx512vbmi"; UsageError on anything else.
Isa parse_isa(std::string_view name);

/// "cpp-avx2": the `backend` of metrics.md.
std::string_view backend_name();

/// Hot loops live in *.isa.cc files, which the build compiles once per instruction set, each time
/// with SQUISH_ISA_NAMESPACE set. Such a file defines, in squish::SQUISH_ISA_NAMESPACE, a plain
/// struct of function pointers declared in its header; this picks the right one. An *.isa.cc file
/// must not instantiate inline functions of shared headers (the standard library's included): the
/// linker keeps one copy of those, perhaps the one with instructions that this CPU lacks. Only
/// files under squish/kernels/ are compiled for avx512vbmi; the others have no use for it.
template <class Table>
const Table& choose(const Table& scalar, const Table& avx2, const Table& avx512,
                    const Table& avx512vbmi) {
  switch (active_isa()) {
    case Isa::avx512vbmi:
      return avx512vbmi;
    case Isa::avx512:
      return avx512;
    case Isa::avx2:
      return avx2;
    default:
      return scalar;
  }
}

template <class Table>
const Table& choose(const Table& scalar, const Table& avx2, const Table& avx512) {
  return choose(scalar, avx2, avx512, avx512);
}

/// Declares `name`, the tables of type `Table` that an *.isa.cc file defines, for
/// choose(scalar::name, avx2::name, avx512::name). For the namespace around SQUISH_ISA_NAMESPACE.
#define SQUISH_DECLARE_TABLES(Table, name) \
  namespace scalar {                       \
  extern const Table name;                 \
  }                                        \
  namespace avx2 {                         \
  extern const Table name;                 \
  }                                        \
  namespace avx512 {                       \
  extern const Table name;                 \
  }                                        \
  namespace avx512vbmi {                   \
  extern const Table name;                 \
  }                                        \
  static_assert(true)  // takes the semicolon

}  // namespace squish
