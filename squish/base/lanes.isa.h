#pragma once
#include <cstddef>
#include <cstdint>

/// GCC's vector extension, one register of the instruction set wide, for *.isa.cc files whose loops
/// the compiler does not vectorise by itself. Comparisons give lanes of 0 or -1, which select.
namespace squish::SQUISH_ISA_NAMESPACE {

#if defined(SQUISH_ISA_avx512)
inline constexpr std::size_t kLanes = 16;
#elif defined(SQUISH_ISA_avx2)
inline constexpr std::size_t kLanes = 8;
#else
inline constexpr std::size_t kLanes = 4;
#endif
typedef float Floats __attribute__((vector_size(4 * kLanes), may_alias));
typedef std::int32_t Ints __attribute__((vector_size(4 * kLanes), may_alias));

/// std::min, whose inline code could come from another instruction set's object file.
inline std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

}  // namespace squish::SQUISH_ISA_NAMESPACE
