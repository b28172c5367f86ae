#include "squish/compress/calibration_job.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/interrupt.h"
#include "squish/compress/hidden_states.h"
#include "squish/io/digest.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Run = io::CalibrationSource::Run;

constexpr const char *kBlock = "block", *kHidden = "hidden", *kPart = "part";  // files' names

/// What was saved, or is whole already, checked to be of this job; none: there is nothing.
std::optional<Calibration> find_saved(const fs::path& path, const io::CalibrationSource& job) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  Calibration saved = io::read_calibration(path);
  const auto refuse = [&](const char* what, const std::string& before, const std::string& now) {
    if (before == now) return;
    fail("{}: belongs to another job and cannot be resumed: {} was {} and is {}", path.string(),
         what, before, now);
  };
  refuse("the model's digest", saved.source.model_sha256, job.model_sha256);
  const Run &before = saved.source.runs.front(), &now = job.runs.front();
  if (saved.source.runs.size() > 1) fail("{}: was merged and cannot be resumed", path.string());
  refuse("the protocol", before.protocol, now.protocol);
  refuse("the text's digest", before.text_sha256, now.text_sha256);
  refuse("the tokens' digest", before.tokens_sha256, now.tokens_sha256);
  refuse("the number of windows", std::to_string(before.planned), std::to_string(now.planned));
  refuse("the program", before.made_by, now.made_by);
  return saved;
}

class Job {
 public:
  Job(const io::ModelFiles& files, const CalibrationJob& job, ThreadPool& pool,
      const std::function<void(std::size_t)>& done)
      : files_(files),
        job_(job),
        pool_(pool),
        done_(done),
        team_(job.team != nullptr ? *job.team : alone_),
        folder_(unfinished_path(job.out)),
        hidden_(folder_, kHidden, job.windows, files.config.hidden),
        source_{.model_sha256 = io::model_digest(files, pool, &team_),
                .runs = {{.text = job.text,
                          .text_sha256 = job.text_sha256,
                          .tokens_sha256 = tokens_sha256(job.windows),
                          .protocol = job.protocol,
                          .planned = job.windows.size(),
                          .made_by = made_by()}}} {}

  void run() {
    std::optional<FileLock> lock;
    std::string first;  // block; empty: there is nothing left to do
    if (team_.leads()) first = open(lock);
    first = team_.broadcast(std::move(first));
    if (first.empty()) return;
    for (std::size_t block = std::stoul(first); block < files_.config.layers; ++block) {
      run_block(block);
    }
    if (team_.leads()) {
      write_result();
      remove_folder();
    }
    team_.broadcast("");
  }

 private:
  const std::vector<WindowRange>& parts() const { return hidden_.parts(); }
  fs::path block_file(std::size_t block) const {
    return folder_ / fmt::format("{}-{}", kBlock, block);
  }
  fs::path part_file(std::size_t block, std::size_t part) const {
    return folder_ / fmt::format("{}-{}-{}", kPart, block, part);
  }

  /// The source of sums over the first `windows`.
  io::CalibrationSource source_of(std::size_t windows) const {
    io::CalibrationSource source = source_;
    source.runs.front().windows = windows;
    for (std::size_t w = 0; w < windows; ++w) source.runs.front().tokens += job_.windows[w].size();
    return source;
  }

  /// Begins the job, or finds the block that it goes on with.
  std::string open(std::optional<FileLock>& lock) {
    const std::size_t layers = files_.config.layers;
    const bool is_whole = job_.resume && result_is_whole();
    if (is_whole && !fs::exists(folder_)) return "";
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) fail("{}: cannot be made: {}", folder_.string(), error.message());
    lock.emplace(lock_directory(folder_));
    if (is_whole) {  // killed while it cleared up
      remove_folder();
      return "";
    }
    clear_folder(
        [&](const std::string& name) { return !job_.resume || name.ends_with(".partial"); });
    std::size_t block = 0;
    while (block < layers) {
      const auto saved = find_saved(block_file(block), source_);
      if (!saved || !saved->source.finished()) break;
      done_(job_.windows.size());
      ++block;
    }
    for (std::size_t other = 0; other < layers; ++other) {
      if (other != block && other != block + 1) hidden_.remove(other);
      if (other > block) fs::remove(block_file(other));
    }
    return std::to_string(block);
  }

  void run_block(std::size_t block) {
    total_ = std::make_shared<io::SumsOfInputs>();
    next_ = 0;
    if (team_.leads()) load_total(block);
    saved_ = next_;
    saved_at_ = Clock::now();
    const std::size_t first = std::stoul(team_.broadcast(std::to_string(next_)));
    std::optional<BlockCalibrator> calibrator;
    std::set<std::size_t> summed;  // parts, by the leader; not yet in the total
    const auto work = [&](std::size_t item) {
      run_part(block, first + item, calibrator);
      return std::string();
    };
    const auto collect = [&](std::size_t item, int rank, const std::string& /*nothing*/) {
      summed.insert(first + item);
      const WindowRange& part = parts()[first + item];
      if (rank != 0) done_(part.end - part.begin);
      for (; summed.erase(next_) > 0; ++next_) add_part(block, next_);
      const std::chrono::duration<double> since = Clock::now() - saved_at_;
      if (since.count() >= job_.save_every && next_ < parts().size()) save_total(block);
    };
    try {
      team_.share(parts().size() - first, work, collect);
    } catch (const Interrupted&) {
      if (team_.leads()) save_total(block);
      throw;
    }
    if (!team_.leads()) return;
    save_total(block);
    hidden_.remove(block);
  }

  /// From what was saved.
  void load_total(std::size_t block) {
    const auto saved = find_saved(block_file(block), source_);
    if (!saved) {
      save_total(block);  // of nothing: whose job this is
      return;
    }
    io::check_values(*saved);
    const std::size_t windows = saved->source.runs.front().windows;
    while (next_ < parts().size() && parts()[next_].end <= windows) ++next_;
    io::add_sums(saved->inputs, block_file(block).string(), *total_, pool_);
    done_(windows);
  }

  /// Its windows, through the block; the sums go to a file where there are other ranks. What ranks
  /// left in one is good for a process alone as well.
  void run_part(std::size_t block, std::size_t part, std::optional<BlockCalibrator>& calibrator) {
    const bool is_last = block + 1 == files_.config.layers;
    const WindowRange& range = parts()[part];
    if ((is_last || hidden_.holds(block + 1, part)) &&
        find_saved(part_file(block, part), source_)) {
      if (team_.leads()) done_(range.end - range.begin);
      return;
    }
    std::vector<Matrix> hidden;
    if (block == 0) {
      if (!embedding_) embedding_ = model::stored_embedding(files_, pool_);
      for (std::size_t w = range.begin; w < range.end; ++w) {
        hidden.push_back(model::embed(*embedding_, job_.windows[w]));
      }
    } else {
      hidden = hidden_.read(block, part);
    }
    if (!calibrator) {
      calibrator.emplace(files_, block, longest(job_.windows), pool_);
      const std::string next = fmt::format("model.layers.{}.", block + 1);
      for (const auto& [name, tensor] : files_.table.tensors) {
        if (name.starts_with(next)) read_ahead(tensor.bytes);
      }
    }
    part_ = calibrator->run(hidden, [this] {
      if (team_.leads()) done_(1);
      stop_if_interrupted();
    });
    if (!is_last) hidden_.write(block + 1, part, hidden);
    if (team_.size() == 1) return;
    Calibration calibration;
    calibration.source = source_of(range.end);
    calibration.inputs = std::move(part_);
    io::write_calibration(part_file(block, part), calibration, pool_);
  }

  /// The leader's; may run beside its work on another part, so on no pool but its own.
  void add_part(std::size_t block, std::size_t part) {
    if (team_.size() > 1 || part_.empty()) {
      const auto saved = find_saved(part_file(block, part), source_);
      if (!saved) fail("{}: is missing", part_file(block, part).string());
      io::check_values(*saved);
      io::add_sums(saved->inputs, part_file(block, part).string(), *total_, one_thread_);
    } else {
      io::add_sums(part_, job_.out.string(), *total_, pool_);
      part_.clear();
    }
  }

  void save_total(std::size_t block) {
    Calibration calibration;
    calibration.source = source_of(next_ == 0 ? 0 : parts()[next_ - 1].end);
    calibration.inputs = io::views_of(total_);
    io::write_calibration(block_file(block), calibration, one_thread_);
    for (; saved_ < next_; ++saved_) fs::remove(part_file(block, saved_));
    saved_at_ = Clock::now();
  }

  void write_result() {
    total_.reset();
    Calibration calibration;
    calibration.source = source_of(job_.windows.size());
    calibration.text_lines = job_.text_lines;
    for (std::size_t block = 0; block < files_.config.layers; ++block) {
      Calibration part = io::read_calibration(block_file(block));
      io::check_values(part);  // before they get a digest of the result's
      calibration.inputs.merge(part.inputs);
    }
    io::write_calibration(job_.out, calibration, pool_);
  }

  /// Nothing but what such jobs write: block-1, part-1-2, part-1-2.345.partial.
  void clear_folder(const std::function<bool(const std::string& name)>& which) const {
    for (const auto& entry : fs::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      std::string_view rest = name;
      for (const char* stem : {kBlock, kHidden, kPart}) {
        if (rest.starts_with(stem)) rest.remove_prefix(std::string_view(stem).size());
      }
      if (rest.ends_with(".partial")) rest.remove_suffix(std::string_view(".partial").size());
      const bool is_ours = rest.size() < name.size() && rest.starts_with('-') &&
                           std::ranges::all_of(rest, [](char c) {
                             return c == '-' || c == '.' || (c >= '0' && c <= '9');
                           });
      if (is_ours && which(name)) fs::remove(entry.path());
    }
  }

  void remove_folder() const {
    clear_folder([](const std::string&) { return true; });
    std::error_code ignored;  // what is left behind is harmless
    fs::remove(folder_ / kLockFile, ignored);
    fs::remove(folder_, ignored);
  }

  /// Whether job.out is what this job would write. Another job's is refused, unless this one has
  /// begun to replace it.
  bool result_is_whole() const {
    try {
      const auto found = find_saved(job_.out, source_);
      return found && found->source.finished();
    } catch (const Error&) {
      if (!fs::exists(folder_)) throw;
      return false;
    }
  }

  const io::ModelFiles& files_;
  const CalibrationJob& job_;
  ThreadPool& pool_;
  ThreadPool one_thread_{1};
  const std::function<void(std::size_t)>& done_;
  Team alone_;
  Team& team_;
  const fs::path folder_;
  const HiddenStates hidden_;
  const io::CalibrationSource source_;  // without the windows that are done
  std::optional<model::Embedding> embedding_;
  std::map<std::string, InputSums> part_;  // of one process alone: made (not read), not yet added
  std::shared_ptr<io::SumsOfInputs> total_;
  std::size_t next_ = 0;   // part that is to be added to it
  std::size_t saved_ = 0;  // as next_ was
  Clock::time_point saved_at_;
};

}  // namespace

fs::path unfinished_path(const fs::path& out) { return out.string() + ".unfinished"; }

Calibration run_calibration(const io::ModelFiles& files, const CalibrationJob& job,
                            ThreadPool& pool, const std::function<void(std::size_t n)>& done) {
  const std::size_t needed = calibration_memory(files, job.windows);
  if (job.max_memory > 0 && needed > job.max_memory) {
    fail("calibrating needs about {:.0f} MB, expected at most {:.0f} MB",
         1e-6 * static_cast<double>(needed), 1e-6 * static_cast<double>(job.max_memory));
  }
  Job(files, job, pool, done).run();
  return io::read_calibration(job.out);
}

std::size_t calibration_memory(const io::ModelFiles& files, std::span<const Window> windows) {
  const io::ModelConfig& c = files.config;
  const std::size_t window = longest(windows), attention = c.heads * c.head_dim,
                    kv = c.kv_heads * c.head_dim;
  const std::size_t block = c.hidden * (2 * attention + 2 * kv + 3 * c.intermediate);
  const std::size_t pass =
      window * (2 * c.hidden + 2 * attention + 4 * kv + 2 * c.intermediate);  // and the cache
  const std::size_t part = largest_part(windows.size());
  std::size_t sums = 0;
  for (const std::size_t width : {c.hidden, attention, c.hidden, c.intermediate}) {
    sums += linalg::triangle_size(width);
  }
  constexpr std::size_t kProgram = 32'000'000;  // and the products' panels
  return kProgram + sizeof(float) * (block + pass + part * window * c.hidden) +
         2 * sizeof(double) * sums;
}

}  // namespace squish::compress
