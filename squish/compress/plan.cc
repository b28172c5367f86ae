#include "squish/compress/plan.h"

#include <fnmatch.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "squish/base/error.h"
#include "squish/io/calibration.h"
#include "squish/io/checkpoint.h"
#include "squish/quant/shared_codebooks.h"

namespace squish::compress {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

/// Rows of both are as long as the hidden state is wide.
TensorRule table_rule(const std::string& name, int bits, std::size_t cols) {
  const std::size_t divisor = std::gcd(cols, std::size_t{64});
  return {name, quant::Spec::parse(fmt::format("int{}:sym=0,g={},clip=mse,scale=f16", bits,
                                               divisor >= 16 ? divisor : 64))};
}

/// What stands for linear_names() where the architecture is unknown.
std::vector<std::string> names_like_linear(const io::TensorTable& table) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : table.tensors) {
    const auto says = [&](std::string_view part) { return name.find(part) != name.npos; };
    const bool is_table = says("embed") || says("wte") || says("wpe") || says("head");
    if (tensor.shape.size() == 2 && name.ends_with("weight") && !is_table && !says("norm")) {
      names.push_back(name);
    }
  }
  return names;
}

/// The name without the number of its block.
std::string role_of(const std::string& name) {
  std::string role;
  std::istringstream parts(name);
  for (std::string part; std::getline(parts, part, '.');) {
    if (part.find_first_not_of("0123456789") != part.npos) role += part + ".";
  }
  return role;
}

void name_shared(std::vector<PlannedTensor>& tensors) {
  std::map<std::string, std::string> names;
  for (PlannedTensor& tensor : tensors) {
    const quant::Sharing sharing = quant::sharing_of(tensor.spec);
    if (sharing == quant::Sharing::none) continue;
    std::string key = tensor.spec.full();
    if (sharing == quant::Sharing::role) key += " " + role_of(tensor.name);
    tensor.shared = names.try_emplace(key, io::shared_section_name(names.size())).first->second;
  }
}

}  // namespace

TensorRule parse_rule(const std::string& text) {
  const std::size_t equals = text.find('=');  // tensor names have none, specs may
  if (equals == 0 || equals == text.npos) {
    fail_usage("'{}': expected GLOB=SPEC, as in '*.down_proj.weight=int8'", text);
  }
  TensorRule rule{text.substr(0, equals), {}};
  const std::string spec = text.substr(equals + 1);
  if (spec != "none") rule.spec = quant::Spec::parse(spec);
  return rule;
}

Plan make_plan(const io::ModelFiles& files, const quant::Spec& spec,
               const std::vector<TensorRule>& rules) {
  Plan plan{spec, {}, {}};
  const bool is_known = files.config.layers > 0;
  const std::vector<std::string> linear =
      is_known ? io::linear_names(files.config) : names_like_linear(files.table);
  std::vector<bool> used(rules.size());
  bool by_rule = false;  // the last that spec_of() chose
  const auto spec_of = [&](const std::string& name,
                           std::optional<quant::Spec> chosen) -> std::optional<quant::Spec> {
    by_rule = false;
    if (files.table.at(name).shape.size() != 2) return {};
    for (std::size_t i = 0; i < rules.size(); ++i) {
      if (::fnmatch(rules[i].glob.c_str(), name.c_str(), 0) != 0) continue;
      used[i] = by_rule = true;
      chosen = rules[i].spec;
    }
    return chosen;
  };
  const auto add = [&](const std::string& name, const std::optional<quant::Spec>& chosen,
                       bool linear_layer) {
    const io::Tensor& tensor = files.table.at(name);
    if (tensor.elements() == 0) {
      fail("{}: tensor '{}' is empty, expected at least one weight", files.path.string(), name);
    }
    if (!chosen) {
      plan.kept.push_back(name);
      return;
    }
    const quant::Method& method = quant::find_method(chosen->method());
    plan.compressed.push_back({name, *chosen, tensor.rows(), tensor.cols(),
                               method.nominal_bpw(*chosen, tensor.rows(), tensor.cols()), by_rule,
                               linear_layer});
  };
  const std::set<std::string> is_linear(linear.begin(), linear.end());
  for (const auto& [name, tensor] : files.table.tensors) {
    if (!is_linear.contains(name)) add(name, spec_of(name, {}), false);
  }
  for (const std::string& name : linear) add(name, spec_of(name, spec), is_known);
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (!used[i]) fail_usage("'{}' matches no matrix of {}", rules[i].glob, files.path.string());
  }
  name_shared(plan.compressed);
  return plan;
}

std::vector<TensorRule> table_rules(const io::ModelConfig& config, int embed_bits, int head_bits) {
  std::vector<TensorRule> rules;
  if (embed_bits != 0) rules.push_back(table_rule(kEmbedding, embed_bits, config.hidden));
  if (head_bits == 0) return rules;
  if (!config.tied_embeddings) {
    rules.push_back(table_rule(kHead, head_bits, config.hidden));
  } else if (head_bits != embed_bits) {
    fail_usage("--head-bits {}: this model's head is its embedding, expected --embed-bits {} alone",
               head_bits, head_bits);
  }
  return rules;
}

bool share_input(const PlannedTensor& a, const PlannedTensor& b) {
  return a.linear && b.linear && io::input_name(a.name) == io::input_name(b.name);
}

std::vector<TensorRun> runs_of_one_input(const std::vector<PlannedTensor>& tensors,
                                         bool largest_first) {
  std::vector<TensorRun> runs;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    if (t == 0 || !share_input(tensors[t - 1], tensors[t])) runs.push_back({t, t});
    runs.back().end = t + 1;
  }
  if (!largest_first) return runs;
  // Error feedback is rows x cols², the factor of H cols³.
  const auto work = [&](const TensorRun& run) {
    const double cols = static_cast<double>(tensors[run.begin].cols);
    double lines = cols;
    for (std::size_t t = run.begin; t < run.end; ++t) {
      lines += static_cast<double>(tensors[t].rows);
    }
    return lines * cols * cols;
  };
  std::ranges::stable_sort(runs, std::greater(), work);
  return runs;
}

}  // namespace squish::compress
