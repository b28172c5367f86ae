#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "squish/base/matrix.h"
#include "squish/quant/kmeans.h"
#include "squish/quant/quantizer.h"

/// Additive quantisation with learned codebooks, what VPTQ and AQLM have in common: a vector of
/// weights is a scale times the sum of one entry from each codebook.
namespace squish::quant {

/// How a matrix is cut into vectors of `dim` weights. Each vector lies within one line: a column
/// (`down`, VPTQ) or a row (AQLM); every line has a scale. Vector block * lines() + line holds
/// weights [block * dim, (block + 1) * dim) of its line, the last block perhaps fewer.
struct VectorLayout {
  std::size_t rows, cols, dim;
  bool down;

  std::size_t lines() const { return down ? cols : rows; }
  std::size_t length() const { return down ? rows : cols; }  // of a line
  std::size_t blocks() const { return (length() + dim - 1) / dim; }
  std::size_t size() const { return lines() * blocks(); }
};

struct AdditiveOptions {
  std::vector<std::size_t> sizes;  ///< entries of each codebook
  int iterations = 20;             ///< of Lloyd's, for each codebook of the start
  std::size_t beam = 8;            ///< hypotheses kept in the search for codes
  int rounds = 0;                  ///< most alternations of coding and refitting; 0: the start only
  double tolerance = 0;            ///< relative gain below which they stop
  bool half_scales = false;        ///< scales are stored as gain * f16, else as f32
  std::vector<float> importance;   ///< of an error in each line; empty: all alike
  std::vector<Codebook> books;     ///< given: they stay as they are; empty: to be learned
};

/// What makes codebooks of two matrices the same kind of thing, and how they are learned.
struct AdditiveForm {
  VectorLayout layout;
  AdditiveOptions options;
};

struct AdditiveCode {
  std::vector<float> scales;    ///< of each line, as stored
  float gain = 1;               ///< a power of two; 1 unless half_scales
  std::vector<Codebook> books;  ///< values representable in f16
  Codes codes;                  ///< of each vector, one a book
};

/// The matrix as vectors of line / scale; a vector's weight is its scale squared times the line's
/// importance, so that errors count as they do in the matrix.
VectorSet normalise(ConstMatrixView w, const VectorLayout& layout, std::span<const float> scales,
                    std::span<const float> importance, ThreadPool& pool);

/// A few sweeps of refit_codebook() over the books.
void refit_codebooks(const VectorSet& set, std::span<Codebook> books, const Codes& codes,
                     ThreadPool& pool);
/// The scales (of lines) that fit best given the codes; `set` was normalised by those that come
/// in. Lines whose best scale is not positive keep theirs.
void refit_scales(const VectorSet& set, std::span<const Codebook> books, const Codes& codes,
                  std::vector<float>& scales, ThreadPool& pool);

/// The books made ready for beam_search() on one thread, of vectors of `dim` and `short_dim`.
/// They must outlive it.
class CodeSearch {
 public:
  CodeSearch(std::span<const Codebook> books, std::size_t dim, std::size_t short_dim,
             std::size_t beam);
  ~CodeSearch();
  /// As beam_search(), of vectors [begin, end).
  double search(const VectorSet& set, std::size_t begin, std::size_t end, bool restart,
                Codes& codes) const;

 private:
  struct Tables;
  std::unique_ptr<const Tables> tables_;
};

/// The codes of every vector by beam search: book by book, each hypothesis tries all entries in
/// place of its own and the best `beam` are kept. The search starts from `codes`, and then never
/// makes a vector worse, or from nothing (`restart`). Where there are few sums of entries and
/// `beam` is above 1, all sums are tried instead. Returns the weighted squared error.
double beam_search(const VectorSet& set, std::span<const Codebook> books, std::size_t beam,
                   bool restart, Codes& codes, ThreadPool& pool);

/// The root mean square of each line, as `options` have scales stored, and its power of two.
std::vector<float> start_scales(ConstMatrixView weights, const VectorLayout& layout,
                                const AdditiveOptions& options, float& gain);

/// Codebooks for these vectors: residual k-means, then beam search and least squares in turn.
std::vector<Codebook> learn_codebooks(const VectorSet& set, const AdditiveOptions& options,
                                      const EncodeContext& context);

/// How many vectors they are learned from where there are more.
std::size_t training_vectors(const AdditiveOptions& options);

/// Residual k-means as a start, then beam search and least squares for codebooks and scales in
/// turn; on a sample first where the matrix is large, then on all of it.
AdditiveCode additive_encode(ConstMatrixView weights, const VectorLayout& layout,
                             const AdditiveOptions& options, const EncodeContext& context);

/// Rounds to what f16 holds; scales in units of a power of two, which is returned.
void round_codebooks(std::span<Codebook> books);
float round_scales(std::vector<float>& scales);

/// Codebooks one after the other, entry by entry, f16.
Bytes pack_codebooks(std::span<const Codebook> books);
/// All books of such a section. Error if `bytes` are not as many.
std::vector<Codebook> unpack_codebooks(std::span<const std::byte> bytes, std::size_t dim,
                                       std::span<const std::size_t> sizes);

/// Gives the matrix its codebooks: context.shared, or a section of its own.
void store_codebooks(std::span<const Codebook> books, const EncodeContext& context, Packed& packed);

}  // namespace squish::quant
