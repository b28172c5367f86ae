#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/matrix.h"
#include "squish/base/threads.h"
#include "squish/quant/feedback.h"
#include "squish/quant/quantizer.h"

/// Incoherence processing by random Hadamard transforms (QuIP#, arXiv 2402.04396, section 3), which
/// makes the entries of any matrix look independent and Gaussian:
///
///   R = U_m' diag(s_out) W diag(s_in) U_n      W = diag(s_out) U_m R U_n' diag(s_in)
///
/// U: squish/linalg/hadamard.h. s_in belongs to the input, so that tensors that share one share its
/// rotated moments; s_out to the tensor. Signs are stored as bits, LSB first, 1 is minus.
namespace squish::quant {

/// Signs of a tensor's side: packed_bytes(n, 1) bytes. `name` is the tensor's or the input's.
Bytes input_signs(std::size_t n, std::uint64_t seed, std::string_view name);
Bytes output_signs(std::size_t n, std::uint64_t seed, std::string_view name);

/// Stored signs as a diagonal of n entries, times `scale`.
std::vector<float> diagonal(std::span<const std::byte> signs, std::size_t n, float scale);

/// The root of the mean square, in double; the sums depend on no thread.
double root_mean_square(ConstMatrixView w, ThreadPool& pool);

/// `rotated` becomes the rotation of `weights` / unit (0 where unit is 0). May have a wider stride.
void rotate(ConstMatrixView weights, double unit, std::span<const std::byte> signs_in,
            std::span<const std::byte> signs_out, MatrixView rotated, ThreadPool& pool);

/// The sections `signs_in`, `signs_out` and `scale` (one f32), which What is the rounded matrix by.
void store_rotation(Bytes signs_in, Bytes signs_out, double scale, Packed& packed);
struct StoredRotation {
  std::span<const std::byte> signs_in, signs_out;
  float scale;

  /// Error if a section is missing or has another size.
  explicit StoredRotation(const Packed& packed);
  /// In place, from the rounded matrix to What.
  void undo(MatrixView w, ThreadPool& pool) const;
};

/// The Prepared of methods that round the rotated matrix: what its tensors share.
struct RotatedInput : Prepared {
  Bytes signs_in;
  Factor factor;    ///< of H' = U_n' diag(s_in) H diag(s_in) U_n, H's mean diagonal at 1
  Descent descent;  ///< under the same; empty unless asked for
};

/// `block`: columns that are rounded together.
std::shared_ptr<const RotatedInput> prepare_rotated(const InputMoments& moments, std::size_t block,
                                                    double damping, bool descent,
                                                    const PrepareContext& context);

/// The encode() context's, null without calibration; Error if it was prepared for other blocks, or
/// not for the sweeps of coordinate descent that are to come.
const RotatedInput* rotated_input(const EncodeContext& context, const Spec& spec,
                                  std::size_t block);

/// The factor by which the scale of all of What is to grow to lose least under the factor's H; 1
/// where it would not be positive. `rounded` is read in the rank's own runs.
double best_scale(ConstMatrixView weights, ConstMatrixView rounded, const Factor& factor,
                  const RowRuns& runs, ThreadPool& pool);
/// The same where all inputs count alike.
double best_scale(ConstMatrixView weights, ConstMatrixView rounded, ThreadPool& pool);

}  // namespace squish::quant
