#pragma once
#include <cstddef>
#include <cstdint>

/// The loops of e8p.cc, one table per instruction set (squish/base/isa.h). Vectors have 8
/// consecutive floats.
namespace squish::quant {

inline constexpr int kQuads = 32;
/// Bit of the sign byte for a coordinate.
inline constexpr int kPosition[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/// E8P as a product: point (a, s) = rows[a] * signs[s] + shift[s], coordinate by coordinate.
struct E8pTable {
  alignas(64) float rows[256][8];   // 1/2, 3/2, 5/2; coordinate 7 negative where `odd`
  alignas(64) float signs[256][8];  // +-1, an even number of them -1
  float shift[256];                 // +1/4, or -1/4 where the sign byte has odd parity
  std::uint8_t odd[256];            // 1 where the coordinates of |rows[a]| have an odd sum
  // For the search: |rows[a]| = (quads[head[a]], quads[tail[a]]).
  float quads[kQuads][4];
  float quad_half_norm[kQuads];  // |quads[q]|^2 / 2
  float side[256];               // -1 where `odd`, else 1
  std::uint8_t head[256], tail[256];
};

/// Any 256 points.
struct Points256 {
  alignas(64) float point[256][8];
  float half_norm[256];  // |point|^2 / 2
};

struct E8pOps {
  /// codes[v] = code of the E8P point nearest to x[8 v .. 8 v + 7].
  void (*nearest_e8p)(const E8pTable& table, const float* x, std::size_t vectors,
                      std::uint16_t* codes);
  /// The vectors that the codes stand for.
  void (*expand_e8p)(const E8pTable& table, const std::uint16_t* codes, std::size_t vectors,
                     float* out);
  /// codes[v] = index of the nearest of 256 points.
  void (*nearest_point)(const Points256& points, const float* x, std::size_t vectors,
                        std::uint8_t* codes);
  /// codes[v] = index of the unit vector d with the largest <x, d>^2, dots[v] = that <x, d>.
  void (*nearest_line)(const Points256& points, const float* x, std::size_t vectors,
                       std::uint8_t* codes, float* dots);
  /// {sum x q, sum q^2}: what the least-squares scale of q needs.
  void (*dots)(const float* x, const float* q, std::size_t n, float* out);
};

const E8pOps& e8p_ops();

}  // namespace squish::quant
