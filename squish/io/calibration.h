#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "squish/base/buffer.h"
#include "squish/base/threads.h"
#include "squish/linalg/symmetric.h"
#include "squish/quant/moments.h"

/// What calibration found out about the inputs of a model's linear layers, and the file that holds
/// it (docs/format.md).
namespace squish::io {

/// The input of a linear layer, by its tensor's name: "model.layers.3.self_attn.qkv" for q_proj,
/// k_proj and v_proj, ".mlp.gate_up" for gate_proj and up_proj, which share one; otherwise the
/// layer's own name without ".weight".
std::string input_name(const std::string& linear);

/// Sums over the tokens at one input. They may lie in a mapped file: `owner` keeps them alive.
struct InputSums {
  std::uint64_t tokens = 0;          ///< that are in the sums
  std::uint64_t dropped = 0;         ///< activations that are not finite, or beyond +-1e15
  std::size_t width = 0;             ///< elements of an activation
  std::span<const double> sum;       ///< of x, width
  std::span<const double> products;  ///< of x xᵀ, linalg::triangle_size(width)
  std::shared_ptr<const void> owner;
  /// Of a file's bytes, checked by moments(); empty where the sums were made by this process.
  std::string sum_sha256, products_sha256;
};

/// Sums while they are made, which own their memory.
struct OwnedSums {
  std::uint64_t tokens = 0, dropped = 0;
  AlignedVector<double> sum, products;

  OwnedSums() = default;
  explicit OwnedSums(std::size_t width) : sum(width), products(linalg::triangle_size(width)) {}
};
using SumsOfInputs = std::map<std::string, OwnedSums>;  ///< by input_name()

/// to += from; what is not there yet begins at zero. The first error is that of a width that is
/// another one: `where` is what has it.
void add_sums(const std::map<std::string, InputSums>& from, const std::string& where,
              SumsOfInputs& to, ThreadPool& pool);
/// As a calibration takes them.
std::map<std::string, InputSums> views_of(const std::shared_ptr<const SumsOfInputs>& sums);

/// What a calibration was made from and by.
struct CalibrationSource {
  struct Run {
    std::string text;           ///< name or path, for people
    std::string text_sha256;    ///< of the text that was tokenised
    std::string tokens_sha256;  ///< of all `planned` windows, u32 little-endian
    std::string protocol;       ///< how the text was cut, and the window length: "gptq-2048"
    std::uint64_t windows = 0;  ///< that are in the sums; fewer than planned: unfinished
    std::uint64_t planned = 0;
    std::uint64_t tokens = 0;  ///< in those windows
    std::string made_by;  ///< what the last bits depend on: version, commit, instruction set, BLAS
    bool operator==(const Run&) const = default;
  };
  std::string model_sha256;  ///< io::model_digest()
  std::vector<Run> runs;     ///< several where files were merged, by ascending tokens_sha256
  bool operator==(const CalibrationSource&) const = default;

  bool finished() const;
  std::uint64_t tokens() const;  ///< of all runs
};

struct Calibration {
  std::filesystem::path path;  ///< the file it was read from; empty: none
  /// Of the file's description, in which are the digests of all sums: tells one file from another
  /// without reading it. Empty where the sums were made by this process.
  std::string digest;
  CalibrationSource source;
  std::map<std::string, InputSums> inputs;  ///< by input_name()
  /// 64-bit hashes of the longer lines of the text, ascending: tells a text that shares some.
  std::vector<std::uint64_t> text_lines;

  /// The moments of the input of `linear` (a tensor's name), H where the sums lie. Error naming
  /// file and input if there is none, if all of its activations were dropped, or if its bytes are
  /// not those that were written.
  quant::InputMoments moments(const std::string& linear) const;
};

inline constexpr int kCalibrationVersion = 0;

/// Whole or not at all.
void write_calibration(const std::filesystem::path& path, const Calibration& calibration,
                       ThreadPool& pool);

/// Maps the file: the sums stay there until they are asked for. Trusts nothing; Error naming file
/// and what was expected. Takes unfinished ones, too.
Calibration read_calibration(const std::filesystem::path& path);

/// Error unless all sums are finite and those of the file that they were read from. Reads them all.
void check_values(const Calibration& calibration);

/// Error naming both digests unless the calibration is of this model and finished.
void check_calibration(const Calibration& calibration, const std::string& model_sha256);

/// One calibration with the sums of all, added in the order of their texts' digests whatever the
/// order of the arguments. Error if they are of different models or share a text.
Calibration merge_calibrations(std::vector<Calibration> parts, ThreadPool& pool);

}  // namespace squish::io
