#include "squish/compress/job.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/interrupt.h"
#include "squish/base/isa.h"
#include "squish/base/memory.h"
#include "squish/base/progress.h"
#include "squish/base/version.h"
#include "squish/compress/calibration.h"
#include "squish/compress/log.h"
#include "squish/compress/prepared_inputs.h"
#include "squish/compress/sequential.h"
#include "squish/compress/shared.h"
#include "squish/compress/shared_clock.h"
#include "squish/io/digest.h"
#include "squish/linalg/gemm.h"
#include "squish/quant/feedback.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;

// Holds activations between two layers while a sequential job is unfinished.
constexpr const char* kSequential = "sequential";

/// Besides what a job that was killed at its very start leaves.
bool holds_something(const fs::path& directory) {
  if (!fs::exists(directory)) return false;
  if (!fs::is_directory(directory)) fail("{}: expected a directory", directory.string());
  const fs::directory_iterator entries(directory);
  return std::any_of(begin(entries), end(entries), [](const fs::directory_entry& entry) {
    return entry.path().extension() != ".partial" && entry.path().filename() != kLockFile;
  });
}

class Job {
 public:
  Job(const io::ModelFiles& files, const Plan& plan, const JobOptions& options, ThreadPool& pool)
      : files_(files),
        plan_(plan),
        options_(options),
        pool_(pool),
        team_(options.team != nullptr ? *options.team : alone_),
        inputs_(std::in_place, options.calibration, options.seed, pool) {}

  void run(io::CheckpointJob job) {
    const fs::path& out = options_.out;
    reset_peak_rss();  // the log's is this job's
    std::optional<FileLock> lock;
    bool whole = false;
    if (team_.leads()) whole = open(job, lock);
    whole = !team_.broadcast(whole ? "whole" : "").empty();
    if (!whole) {
      if (!team_.leads()) check_same(job, out / io::kJobFile);
      if (options_.target != nullptr) decide_specs(job);
      if (!options_.sequential.empty()) start_sequential();
      write_files();
      team_.broadcast("");  // all logs are whole
    }
    if (!team_.leads()) return;
    if (!whole) {
      join_logs(out);
      io::write_manifest(job, file_count(), out);
    }
    // A whole checkpoint may lie where nothing can be removed, and need not.
    for (const char* name : {kCandidates, kSequential, io::kJobFile}) {
      if (fs::exists(out / name)) fs::remove_all(out / name);
    }
  }

 private:
  /// Begins the job on `out`, or finds that it can go on; true: there is nothing left to do.
  bool open(const io::CheckpointJob& job, std::optional<FileLock>& lock) {
    const fs::path& out = options_.out;
    check_destination(options_);
    const bool whole = fs::exists(out / io::kManifestFile);
    std::error_code error;
    fs::create_directories(out, error);
    if (error) fail("{}: cannot be made: {}", out.string(), error.message());
    lock.emplace(lock_directory(out));
    for (const char* name : {io::kManifestFile, io::kJobFile}) {
      if (fs::exists(out / name)) check_same(job, out / name);
    }
    if (!whole) {
      remove_partial_files(out);
      io::write_job(job, out);
    }
    return whole;
  }

  std::size_t file_count() const { return plan_.compressed.size() + 1; }
  fs::path file(std::size_t index) const {
    return options_.out / io::checkpoint_file_name(index, file_count());
  }

  static void check_same(const io::CheckpointJob& job, const fs::path& file) {
    const std::string what = io::difference(io::read_job(file), job);
    if (!what.empty())
      fail("{}: this is another job and cannot be resumed: {}", file.string(), what);
  }

  /// In a folder of squish's own.
  static void remove_partial_files(const fs::path& directory) {
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
      if (entry.path().extension() == ".partial") fs::remove(entry.path());
    }
  }

  /// The file's tensors if it is there, undamaged, with exactly the tensors `names`.
  std::optional<io::TensorTable> read_done(const fs::path& path,
                                           const std::vector<std::string>& names) const {
    if (!fs::exists(path)) return {};
    try {
      io::TensorTable table;
      table.shared = shared_;
      io::read_checkpoint_file(path, table);
      for (const std::string& name : names) io::check_sums(table.at(name));
      if (table.tensors.size() == names.size()) return table;
    } catch (const Error&) {
    }
    return {};
  }

  /// The same for one tensor, in the bytes of its spec.
  std::optional<io::TensorTable> read_done(const fs::path& path,
                                           const PlannedTensor& tensor) const {
    auto table = read_done(path, std::vector{tensor.name});
    if (!table) return {};
    const auto& packed = table->at(tensor.name).packed;
    if (packed == nullptr || packed->spec != tensor.spec.full()) return {};
    return table;
  }

  /// From here on tensors are compressed for what those before them, as they lie in `out`, give
  /// them.
  void start_sequential() {
    candidates_.clear();  // were compressed for the original's inputs
    const auto planned = [this](const std::string& tensor) {
      return std::ranges::find(plan_.compressed, tensor, &PlannedTensor::name);
    };
    const auto compressed = [=, this](const std::string& tensor) -> std::optional<Matrix> {
      const auto at = planned(tensor);
      if (at == plan_.compressed.end()) return {};
      const auto index = static_cast<std::size_t>(at - plan_.compressed.begin());
      const auto table = read_done(file(index + 1), *at);
      if (!table) fail("{}: is missing or damaged", file(index + 1).string());
      return io::read_matrix(table->at(tensor), pool_);
    };
    const fs::path folder = options_.out / kSequential;
    if (team_.leads()) fs::create_directory(folder);
    team_.broadcast("");
    sequential_.emplace(files_, options_.sequential, compressed, folder, team_, pool_);
    inputs_.emplace(
        [=, this](const std::string& tensor) -> std::optional<quant::InputMoments> {
          if (!planned(tensor)->linear) return {};  // an embedding
          return std::move(map_.moments);           // which PreparedInputs keeps
        },
        options_.seed, pool_);
  }

  /// What a tensor is to come near to: the map of the inputs that it will have nearest to the
  /// original's outputs.
  Matrix wanted_weights(const PlannedTensor& tensor, const Matrix& weights, Team* team) const {
    Matrix wanted = weights;
    if (!tensor.linear) return wanted;
    const RowRuns runs{1, team};
    runs.for_own(weights.rows(), pool_, [&](std::size_t begin, std::size_t end) {
      const MatrixView rows = wanted.view().row_range(begin, end);
      if (map_.correction.size() > 0) {
        linalg::gemm_nn_add(weights.view().row_range(begin, end), map_.correction, rows);
      }
      for (std::size_t i = begin; i < end && map_.residual.size() > 0; ++i) {
        for (std::size_t j = 0; j < weights.cols(); ++j) wanted(i, j) += map_.residual(i, j);
      }
    });
    runs.merge(weights.rows(), std::span(wanted.data(), wanted.size()));
    return wanted;
  }

  /// What every checkpoint needs besides the compressed tensors.
  void write_first_file() const {
    io::write_checkpoint_config(files_, options_.out);
    if (read_done(file(0), plan_.kept)) return;
    const io::SharedSections shared =
        learn_shared(files_, plan_, options_.calibration, options_.seed, options_.quiet, pool_);
    std::vector<io::Tensor> kept;
    for (const std::string& name : plan_.kept) kept.push_back(files_.table.at(name));
    io::write_checkpoint_file(file(0), kept, shared);
  }

  void write_files() {
    if (team_.leads()) write_first_file();
    team_.broadcast("");
    io::TensorTable kept;
    io::read_checkpoint_file(file(0), kept);
    shared_ = std::move(kept.shared);
    std::size_t weights = 0;
    for (const PlannedTensor& tensor : plan_.compressed) weights += tensor.rows * tensor.cols;
    Log log(options_.out, team_.rank());
    Progress progress(options_.label, static_cast<double>(weights),
                      options_.quiet || !team_.leads());
    const auto advance = [&](const PlannedTensor& tensor, bool is_done) {
      progress.advance(is_done ? static_cast<double>(tensor.rows * tensor.cols) : 0, tensor.name);
    };
    const bool in_order = sequential_ || team_.size() == 1;
    const std::vector<TensorRun> runs = runs_of_one_input(plan_.compressed, !in_order);
    if (!sequential_) return share_out(runs, log, advance);
    for (const TensorRun& run : runs) {
      // What is missing for one rank is missing for all.
      std::string missing;
      for (std::size_t t = run.begin; t < run.end && team_.leads(); ++t) {
        missing += read_done(file(t + 1), plan_.compressed[t]) ? '0' : '1';
      }
      missing = team_.broadcast(missing);
      if (&run != &runs.back()) read_ahead_of(*(&run + 1));
      const bool is_linear = plan_.compressed[run.begin].linear;
      if (is_linear && missing.find('1') != std::string::npos) {
        map_ = sequential_->at(plan_.compressed[run.begin].name);
      }
      std::vector<TensorRun> apart = {run};
      if (team_.size() > 1) {
        apart.clear();
        for (std::size_t t = run.begin; t < run.end; ++t) {
          const PlannedTensor& tensor = plan_.compressed[t];
          const bool is_shared = quant::find_method(tensor.spec.method()).shares_rows;
          if (is_linear && is_shared && missing[t - run.begin] == '1') {
            write_together(t, log, advance);
          } else {
            apart.push_back({t, t + 1});
          }
        }
      }
      share_out(apart, log, advance);
      team_.broadcast("");  // they are what the next input is behind
    }
  }

  void read_ahead_of(const TensorRun& run) const {
    for (std::size_t t = run.begin; t < run.end; ++t) {
      read_ahead(files_.table.at(plan_.compressed[t].name).bytes);
    }
  }

  /// A tensor by all ranks, one of which writes it.
  void write_together(std::size_t t, Log& log, const Advance& advance) {
    stop_if_interrupted();
    const PlannedTensor& tensor = plan_.compressed[t];
    advance(tensor, false);
    const Worker worker(clock_);
    const Input input{inputs_->prepared(tensor.name, tensor.spec), inputs_->moments(tensor.name)};
    const Encoded encoded = encode(tensor, input, &team_);
    if (t % static_cast<std::size_t>(team_.size()) == static_cast<std::size_t>(team_.rank())) {
      store(tensor, file(t + 1), input, encoded, worker, 0, log);
    }
    advance(tensor, true);
  }

  /// The tensors of each run, which have one input, by one rank.
  void share_out(const std::vector<TensorRun>& runs, Log& log, const Advance& advance) {
    const std::vector<PlannedTensor>& tensors = plan_.compressed;
    const auto work = [&](std::size_t run) {
      const std::size_t later = run + static_cast<std::size_t>(team_.size());  // likely to be next
      if (later < runs.size()) read_ahead_of(runs[later]);
      std::vector<Wanted> wanted;
      for (std::size_t t = runs[run].begin; t < runs[run].end; ++t) {
        const fs::path path = file(t + 1);
        const bool is_there =
            read_done(path, tensors[t]) ||
            (t < candidates_.size() && take_candidate(candidates_[t], tensors[t], path));
        if (is_there) {
          advance(tensors[t], true);
        } else {
          wanted.push_back({tensors[t], path});
        }
      }
      write_tensors(wanted, log, advance);
      return std::string();
    };
    const auto collect = [&](std::size_t run, int rank, const std::string& /*nothing*/) {
      for (std::size_t t = runs[run].begin; t < runs[run].end && rank != 0; ++t) {
        advance(tensors[t], true);  // of those that this process did it has been said
      }
    };
    team_.share(runs.size(), work, collect);
  }

  /// False if it is not there, or damaged.
  bool take_candidate(const fs::path& from, const PlannedTensor& tensor, const fs::path& to) const {
    const auto table = read_done(from, tensor);
    if (!table) return false;
    if (options_.candidates.empty()) {
      if (fs::is_symlink(from)) return false;
      fs::rename(from, to);
    } else {
      io::write_checkpoint_file(to, {{table->at(tensor.name)}});
    }
    return true;
  }

  /// Of each candidate; kept ones by the digest of all that their bytes depend on.
  std::vector<fs::path> candidate_folders(io::CheckpointJob job) const {
    std::vector<fs::path> folders;
    job.target = job.held_out_sha256 = job.sequential_sha256 = "";
    for (const quant::Spec& spec : options_.target->candidates) {
      job.spec = spec.full();
      for (std::size_t i = 0; i < plan_.compressed.size(); ++i) {
        if (!plan_.compressed[i].by_rule) job.tensors[i].second = job.spec;
      }
      folders.push_back(options_.candidates.empty()
                            ? options_.out / kCandidates / std::to_string(folders.size())
                            : options_.candidates / short_digest(io::job_digest(job)));
    }
    return folders;
  }

  void decide_specs(io::CheckpointJob& job) {
    Log log(options_.out, team_.rank());
    // Two jobs that share candidates share the work; ranks, of which any may write, do theirs
    // first.
    std::optional<FileLock> of_ranks;
    if (!options_.candidates.empty() && team_.leads()) {
      of_ranks.emplace(lock_directory(options_.candidates, true));
      for (const auto& entry : fs::directory_iterator(options_.candidates)) {
        const bool is_ours = is_short_digest(entry.path().filename().string());
        if (is_ours && entry.is_directory()) remove_partial_files(entry.path());
      }
      if (team_.size() == 1) of_ranks.reset();
    }
    team_.broadcast("");
    const auto store = [&](const std::vector<Wanted>& wanted, const Advance& advance) {
      std::optional<FileLock> lock;
      if (!options_.candidates.empty() && team_.size() == 1)
        lock.emplace(lock_directory(options_.candidates, true));
      return write_tensors(wanted, log, advance);
    };
    const Candidates candidates{store, [&] { inputs_->release(); }};
    Decision decision = decide(files_, plan_, *options_.target, options_.out,
                               candidate_folders(job), candidates, options_.quiet, team_, pool_);
    plan_ = std::move(decision.plan);
    candidates_ = std::move(decision.files);
    for (std::size_t i = 0; i < plan_.compressed.size(); ++i) {
      job.tensors[i].second = plan_.compressed[i].spec.full();
    }
  }

  /// What of a tensor's input is known; null: nothing.
  struct Input {
    const quant::Prepared* prepared = nullptr;
    const quant::InputMoments* moments = nullptr;
  };

  /// Several at a time; all have one input. What is there already is left alone.
  std::vector<Stored> write_tensors(const std::vector<Wanted>& wanted, Log& log,
                                    const Advance& advance) {
    std::vector<std::optional<io::TensorTable>> found(wanted.size());
    pool_.run(wanted.size(),
              [&](std::size_t i) { found[i] = read_done(wanted[i].path, wanted[i].tensor); });
    stop_if_interrupted();
    if (!wanted.empty()) advance(wanted.front().tensor, false);
    std::vector<Input> inputs(wanted.size());
    double share = 0;  // of the time that preparing takes, for each tensor that is not there
    {
      const Worker worker(clock_);
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        const PlannedTensor& tensor = wanted[i].tensor;
        if (!found[i]) inputs[i].prepared = inputs_->prepared(tensor.name, tensor.spec);
        inputs[i].moments = inputs_->moments(tensor.name);
      }
      const auto is_missing = [](const auto& table) { return !table; };
      share = worker.seconds() / static_cast<double>(std::ranges::count_if(found, is_missing));
    }
    std::vector<Stored> stored(wanted.size());
    const auto store_one = [&](std::size_t i) {
      const auto& [tensor, path] = wanted[i];
      advance(tensor, false);
      if (found[i]) {
        const io::Tensor& known = found[i]->at(tensor.name);
        stored[i] = {known.stored_bytes(),
                     loss(read(tensor.name), io::read_matrix(known, pool_), inputs[i])};
      } else {
        const Worker worker(clock_);
        const Encoded made = encode(tensor, inputs[i], nullptr);
        stored[i] = store(tensor, path, inputs[i], made, worker, share, log);
      }
      advance(tensor, true);
    };
    const bool is_limited = options_.at_once > 0 && options_.at_once < pool_.size();
    const std::size_t step =
        is_limited ? static_cast<std::size_t>(options_.at_once) : wanted.size();
    for (std::size_t first = 0; first < wanted.size(); first += step) {
      pool_.run(std::min(step, wanted.size() - first),
                [&](std::size_t i) { store_one(first + i); });
    }
    return stored;
  }

  /// Without moments all inputs count alike.
  double loss(const Matrix& weights, const Matrix& decoded, const Input& input) {
    return input.moments != nullptr
               ? quant::proxy_loss(weights, decoded, input.moments->second, pool_)
               : std::pow(10, -0.1 * quant::snr_db(weights, decoded, pool_));
  }

  struct Encoded {
    Matrix weights, wanted;  // wanted: empty unless it is something else
    quant::Packed packed;
  };

  Encoded encode(const PlannedTensor& tensor, const Input& input, Team* team) {
    Encoded encoded{read(tensor.name), {}, {}};
    if (sequential_) encoded.wanted = wanted_weights(tensor, encoded.weights, team);
    encoded.packed =
        quantize(tensor, sequential_ ? encoded.wanted : encoded.weights, input.prepared, team);
    return encoded;
  }

  /// `worker` is who encoded it; `prepared`: seconds that were spent on it before.
  Stored store(const PlannedTensor& tensor, const fs::path& path, const Input& input,
               const Encoded& made, const Worker& worker, double prepared, Log& log) {
    const auto& [weights, wanted, packed] = made;
    const double encoded = worker.seconds();
    const Matrix decoded = quant::dequantize(packed, pool_);
    const double snr = quant::snr_db(weights, decoded, pool_);
    const double lost = loss(weights, decoded, input);
    const double judged = worker.seconds();
    const io::Tensor stored = io::packed_tensor(tensor.name, packed, tensor.shared);
    io::write_checkpoint_file(path, {{stored}});
    const double seconds = prepared + encoded + worker.seconds() - judged;
    nlohmann::ordered_json line = {{"tensor", tensor.name},
                                   {"spec", tensor.spec.full()},
                                   {"rows", tensor.rows},
                                   {"cols", tensor.cols},
                                   {"bpw", packed.bpw()},
                                   {"snr_db", snr},
                                   {"seconds", seconds},
                                   {"anonymous_bytes", anonymous_memory()},
                                   {"peak_rss_bytes", peak_rss_bytes()}};
    if (input.moments != nullptr) line["proxy_snr_db"] = -10 * std::log10(lost);
    if (input.moments != nullptr && sequential_) {
      line["wanted_snr_db"] = -10 * std::log10(loss(wanted, decoded, input));
    }
    if (input.prepared != nullptr) {
      line["damping"] = input.prepared->damping;
      line["diagonal_only"] = input.prepared->diagonal_only;
    }
    log.write(line.dump() + "\n");
    return {stored.stored_bytes(), lost};
  }

  Matrix read(const std::string& tensor) {
    return io::naming_file(files_, [&] { return io::read_matrix(files_.table.at(tensor), pool_); });
  }

  quant::Packed quantize(const PlannedTensor& tensor, const Matrix& weights,
                         const quant::Prepared* prepared, Team* team) {
    try {
      return quant::quantize(
          weights, tensor.spec,
          {.pool = pool_,
           .seed = options_.seed,
           .key = tensor.name,
           .prepared = prepared,
           .team = team,
           .shared = tensor.shared.empty() ? nullptr : shared_.at(tensor.shared)});
    } catch (const Error& error) {
      fail("{}: tensor {}: {}", files_.path.string(), tensor.name, error.what());
    }
  }

  const io::ModelFiles& files_;
  Plan plan_;
  io::SharedSections shared_;         // of its tensors, from file 0
  std::vector<fs::path> candidates_;  // of plan_.compressed, where specs were chosen
  const JobOptions& options_;
  ThreadPool& pool_;
  Team alone_;
  Team& team_;
  std::optional<SequentialInputs> sequential_;
  SequentialInput map_;  // of the input that was asked for last, its moments elsewhere
  std::optional<PreparedInputs> inputs_;
  SharedClock clock_;
};

}  // namespace

io::CheckpointJob describe_job(const io::ModelFiles& files, const Plan& plan,
                               const JobOptions& options, ThreadPool& pool) {
  io::CheckpointJob job{.version = kVersion,
                        .commit = kCommit,
                        .isa = std::string(to_string(active_isa())),
                        .blas = linalg::blas_description(),
                        .seed = options.seed,
                        .spec = plan.spec.full(),
                        .tensors = {},
                        .model_sha256 = io::model_digest(files, pool, options.team),
                        .calibration_sha256 = "",
                        .sequential_sha256 = "",
                        .target = "",
                        .held_out_sha256 = ""};
  for (const PlannedTensor& tensor : plan.compressed) {
    job.tensors.emplace_back(tensor.name, tensor.spec.full());
  }
  if (options.target != nullptr) {
    job.spec = all_specs(*options.target);
    job.target = describe(*options.target);
    job.held_out_sha256 = tokens_sha256(options.target->windows);
    for (std::size_t i = 0; i < plan.compressed.size(); ++i) {
      if (!plan.compressed[i].by_rule) job.tensors[i].second.clear();
    }
  }
  if (options.calibration != nullptr) {
    io::check_calibration(*options.calibration, job.model_sha256);
    for (const std::string& name : io::linear_names(files.config)) {
      if (options.calibration->inputs.contains(io::input_name(name))) continue;
      fail("{}: nothing is known of the input of {}", options.calibration->path.string(), name);
    }
    job.calibration_sha256 = options.calibration->digest;
    assert(!job.calibration_sha256.empty());  // else the job looks uncalibrated
  }
  if (!options.sequential.empty()) job.sequential_sha256 = tokens_sha256(options.sequential);
  return job;
}

namespace {

/// Makes the folder, or says why it cannot serve.
void check_candidates(const JobOptions& options) {
  std::error_code error;
  const fs::path kept = fs::weakly_canonical(fs::absolute(options.candidates), error);
  const fs::path out = fs::weakly_canonical(fs::absolute(options.out), error);
  if (std::mismatch(out.begin(), out.end(), kept.begin(), kept.end()).first == out.end()) {
    fail_usage("--candidates {}: expected a directory outside the checkpoint",
               options.candidates.string());
  }
  if (fs::exists(kept, error) && !fs::is_directory(kept, error)) {
    fail("{}: expected a directory", options.candidates.string());
  }
  fs::create_directories(kept, error);
  if (error) fail("{}: cannot be made: {}", options.candidates.string(), error.message());
}

}  // namespace

void check_destination(const JobOptions& options) {
  if (!options.candidates.empty()) check_candidates(options);
  const fs::path& out = options.out;
  if (!holds_something(out)) return;
  if (!options.resume) {
    fail("{}: exists already; --resume continues a job that was stopped", out.string());
  }
  if (!fs::exists(out / io::kJobFile) && !fs::exists(out / io::kManifestFile)) {
    fail("{}: holds neither a checkpoint nor one that was begun", out.string());
  }
}

void run_job(const io::ModelFiles& files, const Plan& plan, const io::CheckpointJob& job,
             const JobOptions& options, ThreadPool& pool) {
  Job(files, plan, options, pool).run(job);
}

}  // namespace squish::compress
