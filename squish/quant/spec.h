#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace squish::quant {

/// One parameter of a method, as `squish methods` lists it.
struct Key {
  std::string name;
  std::string fallback;  ///< the default, as it is written in a spec
  std::string help;
  std::vector<std::string> choices =
      {};  ///< allowed words; empty: an integer or real in [low, high]
  double low = 0, high = 0;
  bool real = false;
};

Key integer_key(std::string name, std::int64_t fallback, std::int64_t low, std::int64_t high,
                std::string help);
Key real_key(std::string name, std::string fallback, double low, double high, std::string help);
Key choice_key(std::string name, std::vector<std::string> choices,
               std::string help);  // 1st: default

/// A method and its parameters, "int4:sym=0,g=64", every key present with a valid value.
class Spec {
 public:
  /// Parses and validates `text` against the registry: unknown methods, unknown, repeated or
  /// malformed keys and values out of range are a UsageError that names what was expected.
  static Spec parse(std::string_view text);

  const std::string& method() const { return method_; }
  /// The string as it was asked for (metrics.md `spec`).
  const std::string& asked() const { return asked_; }
  /// Every key with its value in the method's order (metrics.md `spec_full`); parse(full()) is
  /// the same spec.
  std::string full() const;

  std::int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;
  const std::string& word(std::string_view key) const;

  bool operator==(const Spec& other) const { return full() == other.full(); }

 private:
  std::string method_, asked_;
  std::vector<std::pair<std::string, std::string>> values_;  // in the method's order
};

}  // namespace squish::quant
