#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/error.h"
#include "squish/base/matrix.h"
#include "squish/base/team.h"
#include "squish/base/threads.h"
#include "squish/quant/moments.h"
#include "squish/quant/spec.h"

/// The one interface where methods meet. A method turns a weight matrix W (rows = output features,
/// cols = input features) into named byte sections and back; it knows nothing of files or models.
namespace squish::quant {

/// What a section is counted as in `bits` of metrics.md.
enum class Part { indices, scales, codebooks, other };

struct Section {
  std::string name;
  Part part;
  SharedBytes bytes;
};

/// Stored bits by part; their sum over rows * cols is `bpw`.
struct Bits {
  std::uint64_t indices = 0, scales = 0, codebooks = 0, other = 0;
  std::uint64_t total() const { return indices + scales + codebooks + other; }
};

/// A quantised matrix: plain data, little-endian, all that decode() needs.
struct Packed {
  Spec spec;
  std::size_t rows = 0, cols = 0;
  std::vector<Section> sections;
  /// One more, which other matrices have as well and which is stored once for all of them
  /// (shared_codebooks.h); not counted here. Null: none.
  std::shared_ptr<const Section> shared = nullptr;

  /// The section of that name; Error if it is missing or does not hold exactly `bytes` bytes.
  std::span<const std::byte> section(std::string_view name, std::size_t bytes) const;
  Bits bits() const;
  /// 8 * stored bytes / (rows * cols).
  double bpw() const;
};

/// What a method makes of a layer's input moments, once for all tensors that share that input
/// (q, k and v; gate and up): its factor, say.
struct Prepared {
  std::size_t inputs = 0;      ///< columns of the matrices it is for
  double damping = 0;          ///< used, relative to the mean of H's diagonal
  bool diagonal_only = false;  ///< H could not be factored: no error feedback
  virtual ~Prepared() = default;
};

/// What encode() may use besides the weights. The bytes it returns depend on the weights, the
/// spec, the seed, the key and the instruction set (squish/base/isa.h: sums are rounded in another
/// order), never on the number of threads. Any machine decodes them.
struct EncodeContext {
  ThreadPool& pool;
  std::uint64_t seed = 0;
  /// Names the tensor; keys its random streams.
  std::string_view key = "";
  /// From prepare() with the same seed and a spec of the same prepare_keys; null: no calibration, H
  /// is the identity.
  const Prepared* prepared = nullptr;
  /// Ranks that encode this matrix together, each calling this with the same arguments; null: this
  /// process alone. Of methods that do not share out the rows of a matrix (Method::shares_rows)
  /// each does all of it.
  Team* team = nullptr;
  /// Codebooks made for several tensors (shared_codebooks.h); null: the tensor gets its own, also
  /// where its spec would share them.
  std::shared_ptr<const Section> shared = nullptr;
};

struct PrepareContext {
  ThreadPool& pool;
  std::uint64_t seed = 0;
  /// Names the input; keys random streams that tensors with this input share.
  std::string_view key = "";
};

/// context.prepared as the type that the method's prepare() makes; Error if it is another's.
template <class T>
const T& prepared_as(const EncodeContext& context, const Spec& spec) {
  const auto* prepared = dynamic_cast<const T*>(context.prepared);
  if (prepared == nullptr) fail("the input's moments were not prepared for {}", spec.full());
  return *prepared;
}

/// The most that is held at once, measured (bench/memory.py): while a matrix is encoded and judged,
/// copies of it in f32; where inputs are calibrated, as many as `calibrated` says, and n x n
/// doubles, while prepare() is at work and, of what it made, from then on.
struct WorkingMemory {
  double weights = 3, calibrated = 3, preparing = 0, prepared = 0;
};

struct AdditiveForm;  // additive.h

/// A method as the registry holds it.
struct Method {
  std::string name;     ///< as in specs
  std::string summary;  ///< one line
  std::string source;   ///< paper or code that defines it
  std::vector<Key> keys;

  /// Throws UsageError for combinations of values that make no sense together; may be null.
  void (*check)(const Spec& spec) = nullptr;
  /// The formula that the method's paper quotes (metrics.md, `bpw_nominal`).
  double (*nominal_bpw)(const Spec& spec, std::size_t rows, std::size_t cols) = nullptr;
  /// See prepare(); null where the method makes no use of calibration.
  std::shared_ptr<const Prepared> (*prepare)(const InputMoments& moments, const Spec& spec,
                                             const PrepareContext& context) = nullptr;
  /// The keys that prepare() looks at: specs that agree in them share what it makes.
  std::vector<std::string> prepare_keys = {};
  /// `weights`: rows x cols, neither zero, all in +-kLargestWeight (checked by quantize()).
  Packed (*encode)(ConstMatrixView weights, const Spec& spec,
                   const EncodeContext& context) = nullptr;
  WorkingMemory memory = {};
  /// Whether encode() of calibrated weights shares out their rows among `context.team`.
  bool shares_rows = false;
  /// Whether every section holds one row behind another, so that row_of() a matrix is one.
  bool rows_apart = false;
  /// Of methods with the key `share`: how a matrix is cut and its codebooks are learned.
  AdditiveForm (*additive)(const Spec& spec, std::size_t rows, std::size_t cols) = nullptr;
  /// Writes the rows x cols reconstruction. Throws Error if the sections do not fit the spec.
  void (*decode)(const Packed& packed, MatrixView out, ThreadPool& pool) = nullptr;
};

/// That row as a matrix of its own, in the same bytes; for methods that are `rows_apart`.
Packed row_of(const Packed& packed, std::size_t row);

/// All methods, in the order in which they are listed.
const std::vector<Method>& methods();
/// By name; UsageError that lists the names otherwise.
const Method& find_method(std::string_view name);

/// The largest magnitude that quantize() takes: squares and their sums stay within float.
inline constexpr float kLargestWeight = 1e15f;

/// What the spec's method makes of the moments; null: it makes no use of them.
std::shared_ptr<const Prepared> prepare(const InputMoments& moments, const Spec& spec,
                                        ThreadPool& pool, std::uint64_t seed = 0,
                                        std::string_view input_key = "");

/// Error that names the first bad element unless the weights are finite, not too large, not empty.
void check_weights(ConstMatrixView weights);
/// Checks the weights and that `context.prepared` is for as many columns, encodes.
Packed quantize(ConstMatrixView weights, const Spec& spec, const EncodeContext& context);
/// decode() into `out`, which must be packed.rows x packed.cols.
void dequantize(const Packed& packed, MatrixView out, ThreadPool& pool);
Matrix dequantize(const Packed& packed, ThreadPool& pool);

/// 10 log10(|W|^2 / |W - W'|^2) in double precision; infinite where the two are equal, NaN where W
/// is zero besides. Error if W' is not finite.
double snr_db(ConstMatrixView weights, ConstMatrixView decoded, ThreadPool& pool);

}  // namespace squish::quant
