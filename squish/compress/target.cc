#include "squish/compress/target.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "squish/base/error.h"
#include "squish/base/file.h"
#include "squish/base/interrupt.h"
#include "squish/base/progress.h"
#include "squish/compress/allocate.h"
#include "squish/compress/calibration.h"
#include "squish/compress/sensitivity.h"
#include "squish/io/checkpoint.h"

namespace squish::compress {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::size_t kMaxPlan = 100'000'000;

/// A tensor of the plan and what can become of it.
struct Subject {
  std::vector<PlannedTensor> choices;  // one where a rule decides
  std::vector<Stored> stored;          // as many
  std::size_t probe = 0;               // the choice that the model is run with
  double divergence = 0;               // found so, nats
  std::size_t chosen = 0;

  double weights() const { return static_cast<double>(choices[0].rows * choices[0].cols); }
  bool linear() const { return choices[0].linear; }  // counts for bits per weight
  bool open() const { return choices.size() > 1; }
  /// Of any choice; as far as is known.
  double fewest_bits() const {
    double fewest = std::numeric_limits<double>::infinity();
    for (std::size_t c = 0; c < choices.size(); ++c) {
      fewest = std::min(fewest, stored.empty() ? choices[c].nominal_bpw * weights()
                                               : 8 * static_cast<double>(stored[c].bytes));
    }
    return fewest;
  }
  /// Nats per lost energy.
  double sensitivity() const {
    return stored[probe].loss > 0 ? divergence / stored[probe].loss : 0;
  }
  double loss(std::size_t choice) const { return sensitivity() * stored[choice].loss; }
};

class Decider {
 public:
  Decider(const io::ModelFiles& files, const Plan& plan, const Target& target, const fs::path& out,
          const std::vector<fs::path>& folders, bool quiet, ThreadPool& pool)
      : files_(files),
        plan_(plan),
        target_(target),
        out_(out),
        folders_(folders),
        quiet_(quiet),
        pool_(pool) {
    for (const PlannedTensor& tensor : plan.compressed) {
      Subject& subject = subjects_.emplace_back();
      if (tensor.by_rule) {
        subject.choices.push_back(tensor);
        continue;
      }
      for (const quant::Spec& spec : target.candidates) {
        PlannedTensor& choice = subject.choices.emplace_back(tensor);
        choice.spec = spec;
        choice.nominal_bpw =
            quant::find_method(spec.method()).nominal_bpw(spec, tensor.rows, tensor.cols);
      }
    }
  }

  template <class Store>
  void compress(const Store& store, Team& team) {
    fs::create_directories(out_ / kCandidates);
    for (const fs::path& folder : folders_) fs::create_directories(folder);
    double weights = 0;
    for (const Subject& subject : subjects_) {
      weights += subject.weights() * static_cast<double>(subject.choices.size());
    }
    Progress progress("candidates", weights, quiet_);
    const auto advance = [&](const PlannedTensor& tensor, bool is_done) {
      progress.advance(is_done ? static_cast<double>(tensor.rows * tensor.cols) : 0,
                       tensor.spec.asked() + " " + tensor.name);
    };
    const std::vector<TensorRun> runs = runs_of_one_input(plan_.compressed, team.size() > 1);
    const auto work = [&](std::size_t run) {
      std::vector<Wanted> wanted;
      for (std::size_t t = runs[run].begin; t < runs[run].end; ++t) {
        for (std::size_t c = 0; c < subjects_[t].choices.size(); ++c) {
          wanted.push_back({subjects_[t].choices[c], file(t, c)});
        }
      }
      const std::vector<Stored> stored = store(wanted, advance);
      std::string bytes(stored.size() * sizeof(Stored), '\0');
      std::memcpy(bytes.data(), stored.data(), bytes.size());
      return bytes;
    };
    const auto collect = [&](std::size_t run, int rank, const std::string& bytes) {
      std::size_t at = 0;
      for (std::size_t t = runs[run].begin; t < runs[run].end; ++t) {
        Subject& subject = subjects_[t];
        subject.stored.resize(subject.choices.size());
        const std::size_t size = subject.stored.size() * sizeof(Stored);
        std::memcpy(subject.stored.data(), bytes.data() + at, size);
        at += size;
        if (rank == 0) continue;  // of those that this process did it has been said
        for (const PlannedTensor& choice : subject.choices) advance(choice, true);
      }
    };
    team.share(runs.size(), work, collect);
  }

  /// Bits that the tensors of counts() may take. Error if they cannot do with so few; before
  /// anything is compressed, by the methods' formulas, which are never above what is stored.
  std::uint64_t budget() const {
    double least = 0, weights = 0, kept = 0;
    for (const Subject& subject : subjects_) {
      if (!counts(subject)) continue;
      least += subject.fewest_bits();
      weights += subject.weights();
    }
    if (target_.bpw > 0) {
      if (least > target_.bpw * weights) {
        fail("{}: {} cannot be met, the smallest candidates take at least {:.4f}",
             files_.path.string(), describe(target_), least / weights);
      }
      return static_cast<std::uint64_t>(target_.bpw * weights);
    }
    for (const std::string& name : plan_.kept) {
      kept += static_cast<double>(files_.table.at(name).stored_bytes());
    }
    if (8 * kept + least > 8 * static_cast<double>(target_.bytes)) {
      fail(
          "{}: {} cannot be met, the smallest candidates and what stays as it is take at least "
          "{:.0f}",
          files_.path.string(), describe(target_), kept + least / 8);
    }
    return 8 * (target_.bytes - static_cast<std::uint64_t>(kept));
  }

  void probe(std::uint64_t budget) {
    double weights = 0;
    for (const Subject& subject : subjects_) weights += counts(subject) ? subject.weights() : 0;
    const double rate = static_cast<double>(budget) / weights;
    std::map<std::string, std::size_t> open;
    for (std::size_t t = 0; t < subjects_.size(); ++t) {
      if (!subjects_[t].open()) continue;
      open[subjects_[t].choices[0].name] = t;
      subjects_[t].probe = nearest(subjects_[t], rate);
    }
    if (open.empty()) return;
    Json done = read_probes();
    Progress progress("sensitivity", static_cast<double>(open.size()), quiet_);
    Probe probe;
    probe.wanted = [&](const std::string& name) {
      const auto found = open.find(name);
      if (found == open.end()) return false;
      progress.advance(0, name);
      const auto known = done.find(name);
      if (known == done.end()) return true;
      subjects_[found->second].divergence = *known;
      progress.advance(1);
      return false;
    };
    probe.replacement = [&](const std::string& name) {
      const std::size_t t = open.at(name);
      io::TensorTable table;
      io::read_checkpoint_file(file(t, subjects_[t].probe), table);
      return io::read_matrix(table.at(name), pool_);
    };
    probe.found = [&](const std::string& name, double divergence) {
      subjects_[open.at(name)].divergence = divergence;
      done[name] = divergence;
      write_atomically(probes_file(), done.dump(1) + "\n");
      progress.advance(1);
      stop_if_interrupted();
    };
    probe_layers(files_, target_.windows, probe, pool_);
  }

  void choose(std::uint64_t budget) {
    std::vector<std::vector<Choice>> choices;
    std::vector<std::size_t> index;
    for (std::size_t t = 0; t < subjects_.size(); ++t) {
      if (!counts(subjects_[t])) continue;
      index.push_back(t);
      auto& list = choices.emplace_back();
      for (std::size_t c = 0; c < subjects_[t].choices.size(); ++c) {
        list.push_back({8 * subjects_[t].stored[c].bytes, subjects_[t].loss(c)});
      }
    }
    const std::vector<std::size_t> chosen = allocate(choices, budget);
    for (std::size_t i = 0; i < index.size(); ++i) subjects_[index[i]].chosen = chosen[i];
  }

  void write_plan(std::uint64_t budget) const {
    Json tensors = Json::array();
    double predicted = 0, bits = 0, weights = 0;
    for (const Subject& subject : subjects_) {
      if (subject.linear()) {
        bits += 8 * static_cast<double>(subject.stored[subject.chosen].bytes);
        weights += subject.weights();
      }
      if (!subject.open()) continue;
      predicted += subject.loss(subject.chosen);
      Json candidates = Json::array();
      for (const Stored& stored : subject.stored) {
        candidates.push_back({{"bytes", stored.bytes}, {"loss", stored.loss}});
      }
      tensors.push_back({{"name", subject.choices[0].name},
                         {"weights", subject.choices[0].rows * subject.choices[0].cols},
                         {"candidates", candidates},
                         {"probe", subject.probe},
                         {"kld", subject.divergence},
                         {"sensitivity", subject.sensitivity()},
                         {"choice", subject.chosen}});
    }
    Json specs = Json::array();
    for (const quant::Spec& spec : target_.candidates) specs.push_back(spec.full());
    const Json plan = {{"format", "squish.plan"},
                       {"format_version", 0},
                       {"target", describe(target_)},
                       {"budget_bits", budget},
                       {"held_out_tokens_sha256", tokens_sha256(target_.windows)},
                       {"held_out_windows", target_.windows.size()},
                       {"candidates", specs},
                       {"bpw", bits / weights},
                       {"predicted_kld", predicted},
                       {"tensors", tensors}};
    write_atomically(out_ / kPlanFile, plan.dump(1) + "\n");
  }

  /// Whether there is a plan; its choices are taken then.
  bool read_plan() {
    if (!fs::exists(out_ / kPlanFile)) return false;
    try {
      const auto plan = Json::parse(read_text(out_ / kPlanFile, kMaxPlan));
      if (plan.at("target") != describe(target_)) return false;
      std::map<std::string, const Json*> found;
      for (const Json& tensor : plan.at("tensors")) found[tensor.at("name")] = &tensor;
      double bits = 0;
      for (Subject& subject : subjects_) {
        if (!subject.open()) continue;
        const Json& tensor = *found.at(subject.choices[0].name);
        subject.chosen = tensor.at("choice");
        if (subject.chosen >= subject.choices.size()) return false;
        // Never above what is stored; a rule's tensors are not in the plan.
        const PlannedTensor& choice = subject.choices[subject.chosen];
        if (counts(subject)) bits += choice.nominal_bpw * subject.weights();
      }
      return bits <= static_cast<double>(budget());
    } catch (const std::exception&) {  // damaged: made again
      return false;
    }
  }

  Decision decision() const {
    Decision result{plan_, {}};
    for (std::size_t t = 0; t < subjects_.size(); ++t) {
      result.plan.compressed[t] = subjects_[t].choices[subjects_[t].chosen];
      result.files.push_back(file(t, subjects_[t].chosen));
    }
    return result;
  }

 private:
  bool counts(const Subject& subject) const { return target_.bpw == 0 || subject.linear(); }
  fs::path file(std::size_t tensor, std::size_t choice) const {
    return folders_[choice] / fmt::format("{:05}.safetensors", tensor);
  }
  fs::path probes_file() const { return out_ / kCandidates / "divergences.json"; }

  /// The choice that is nearest to `rate` bits per weight and loses something.
  static std::size_t nearest(const Subject& subject, double rate) {
    std::size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t c = 0; c < subject.choices.size(); ++c) {
      const double bits = 8 * static_cast<double>(subject.stored[c].bytes) / subject.weights();
      if (subject.stored[c].loss <= 0 || std::abs(bits - rate) >= least) continue;
      least = std::abs(bits - rate);
      best = c;
    }
    return best;
  }

  Json read_probes() const {
    Json done = Json::object();
    if (!fs::exists(probes_file())) return done;
    try {
      const Json found = Json::parse(read_text(probes_file(), kMaxPlan));
      for (const auto& [name, value] : found.items()) done[name] = value.get<double>();
    } catch (const std::exception&) {  // damaged: measured again
      return Json::object();
    }
    return done;
  }

  const io::ModelFiles& files_;
  const Plan& plan_;
  const Target& target_;
  const fs::path& out_;
  const std::vector<fs::path>& folders_;  // of the candidates
  bool quiet_;
  ThreadPool& pool_;
  std::vector<Subject> subjects_;  // as plan_.compressed
};

}  // namespace

std::string describe(const Target& target) {
  return target.bpw > 0 ? fmt::format("{} bits a weight", target.bpw)
                        : fmt::format("{} bytes", target.bytes);
}

std::string all_specs(const Target& target) {
  std::string specs;
  for (const quant::Spec& spec : target.candidates) {
    specs += (specs.empty() ? "" : ";") + spec.full();
  }
  return specs;
}

Decision decide(const io::ModelFiles& files, const Plan& plan, const Target& target,
                const fs::path& out, const std::vector<fs::path>& folders,
                const Candidates& candidates, bool quiet, Team& team, ThreadPool& pool) {
  Decider decider(files, plan, target, out, folders, quiet || !team.leads(), pool);
  if (team.broadcast(decider.read_plan() ? "known" : "").empty()) {
    decider.budget();
    decider.compress(candidates.store, team);
    candidates.release();
    if (team.leads()) {
      const std::uint64_t budget = decider.budget();
      decider.probe(budget);
      decider.choose(budget);
      decider.write_plan(budget);
    }
    team.broadcast("");
  }
  if (!team.leads() && !decider.read_plan()) {
    fail("{}: is not what the leading rank wrote", (out / kPlanFile).string());
  }
  return decider.decision();
}

void check_target(const io::ModelFiles& files, const Plan& plan, const Target& target,
                  ThreadPool& pool) {
  const fs::path nowhere;
  const std::vector<fs::path> none;
  Decider(files, plan, target, nowhere, none, true, pool).budget();
}

}  // namespace squish::compress
