#include "squish/quant/spec.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "squish/base/error.h"
#include "squish/quant/quantizer.h"

namespace squish::quant {
namespace {

std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view head = text.substr(0, at);
  text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  return head;
}

std::string key_names(const Method& method) {
  std::vector<std::string> names;
  for (const Key& key : method.keys) names.push_back(key.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// The value in its one canonical spelling, so that equal specs have equal text.
std::string canonical(const Key& key, std::string_view value, std::string_view spec) {
  if (!key.choices.empty()) {
    if (std::find(key.choices.begin(), key.choices.end(), value) == key.choices.end()) {
      fail_usage("spec '{}': {}={}, expected one of {}", spec, key.name, value,
                 fmt::join(key.choices, ", "));
    }
    return std::string(value);
  }
  const char* const end = value.data() + value.size();
  if (key.real) {
    double number = 0;
    const auto result = std::from_chars(value.data(), end, number);
    if (result.ec != std::errc() || result.ptr != end || !(number >= key.low) ||
        !(number <= key.high)) {
      fail_usage("spec '{}': {}={}, expected a number from {} to {}", spec, key.name, value,
                 key.low, key.high);
    }
    return fmt::format("{}", number + 0.0);  // -0 is 0
  }
  std::int64_t number = 0;
  const auto result = std::from_chars(value.data(), end, number);
  const auto as_double = static_cast<double>(number);
  if (result.ec != std::errc() || result.ptr != end || as_double < key.low ||
      as_double > key.high) {
    fail_usage("spec '{}': {}={}, expected a whole number from {} to {}", spec, key.name, value,
               key.low, key.high);
  }
  return fmt::format("{}", number);
}

}  // namespace

Key integer_key(std::string name, std::int64_t fallback, std::int64_t low, std::int64_t high,
                std::string help) {
  return {.name = std::move(name),
          .fallback = fmt::format("{}", fallback),
          .help = std::move(help),
          .low = static_cast<double>(low),
          .high = static_cast<double>(high)};
}

Key real_key(std::string name, std::string fallback, double low, double high, std::string help) {
  return {.name = std::move(name),
          .fallback = std::move(fallback),
          .help = std::move(help),
          .low = low,
          .high = high,
          .real = true};
}

Key choice_key(std::string name, std::vector<std::string> choices, std::string help) {
  std::string first = choices.front();
  return {.name = std::move(name),
          .fallback = std::move(first),
          .help = std::move(help),
          .choices = std::move(choices)};
}

Spec Spec::parse(std::string_view text) {
  std::string_view rest = text;
  const Method& method = find_method(take_until(rest, ':'));
  Spec spec;
  spec.asked_ = text;
  spec.method_ = method.name;
  for (const Key& key : method.keys) spec.values_.emplace_back(key.name, key.fallback);

  const bool has_keys = text.find(':') != std::string_view::npos;
  std::vector<bool> seen(method.keys.size());
  while (has_keys) {
    const bool last = rest.find(',') == std::string_view::npos;
    std::string_view value = take_until(rest, ',');
    const bool has_value = value.find('=') != std::string_view::npos;
    const std::string_view name = take_until(value, '=');
    const auto key = std::find_if(method.keys.begin(), method.keys.end(),
                                  [&](const Key& k) { return k.name == name; });
    if (key == method.keys.end() || !has_value) {
      fail_usage("spec '{}': '{}' is not key=value with a key of {} ({})", text, name, method.name,
                 key_names(method));
    }
    const auto index = static_cast<std::size_t>(key - method.keys.begin());
    if (seen[index]) fail_usage("spec '{}': key '{}' is given twice", text, name);
    seen[index] = true;
    spec.values_[index].second = canonical(*key, value, text);
    if (last) break;
  }
  if (method.check != nullptr) method.check(spec);
  return spec;
}

std::string Spec::full() const {
  std::string text = method_;
  char separator = ':';
  for (const auto& [key, value] : values_) {
    text += fmt::format("{}{}={}", separator, key, value);
    separator = ',';
  }
  return text;
}

const std::string& Spec::word(std::string_view key) const {
  for (const auto& [name, value] : values_) {
    if (name == key) return value;
  }
  fail("spec '{}' has no key '{}'", full(), key);
}

std::int64_t Spec::integer(std::string_view key) const {
  const std::string& text = word(key);
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

double Spec::real(std::string_view key) const {
  const std::string& text = word(key);
  double number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace squish::quant
