#pragma once
#include "squish/quant/e8p.isa.h"

/// The fixed codebooks that quip.cc draws from the lattice E8 = {integers or half-integers in all 8
/// coordinates, with an even sum}. They belong to the program and are built on first use.
namespace squish::quant {

/// E8P, "E8 padded" (arXiv 2402.04396, section 4.2), 2^16 points of E8 + 1/4 and of E8 - 1/4 in the
/// numbering of the reference code: row of absolute values times 256, plus a byte of signs.
/// The rows are the 227 vectors over {1/2, 3/2, 5/2} of squared norm at most 10 in lexicographic
/// order, then 29 of squared norm 12.
const E8pTable& e8p_table();

/// E81B, the residual codebook of the 3-bit form: the 241 points of E8 of squared norm at most 2,
/// integers first, each kind in lexicographic order, then +-2 e_i without -2 e_7.
const Points256& e81b_points();

/// RMS of the rotated weights in the units of the codebooks, before the scale is refitted. The
/// reference's at 2 and 3 bits; at 4 bits it has 1.03, which loses 0.4 dB to points out of reach.
/// Within 2 % of the best under any moments: tests/quant/quip_scale_test.cc.
inline double e8p_unit_rms(std::int64_t bits) { return bits == 2 ? 1.03 : bits == 3 ? 0.98 : 0.92; }
/// rho, a constant of the format: the residual codebook is smaller by this factor.
inline float e8p_magnification(std::int64_t bits) { return bits == 3 ? 2.04f : 3.45f; }

/// 256 lines through the origin, as unit vectors, for form=gain: the 120 lines of E8's 240 shortest
/// vectors, then 136 of the 1080 lines of its second shell (which point into the deepest holes
/// between the first), chosen greedily: next is always the line with the least sum of fourth
/// powers of cosines to those already chosen, the first of these in lexicographic order.
const Points256& e8_lines();

}  // namespace squish::quant
