#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "squish/base/threads.h"
#include "squish/io/calibration.h"
#include "squish/quant/quantizer.h"

namespace squish::compress {

/// All that what a method makes of an input depends on besides the moments: the function that makes
/// it, and the values that this reads.
using PrepareKey = std::pair<decltype(quant::Method::prepare), std::string>;
PrepareKey prepare_key(const quant::Spec& spec);

/// A calibration as the methods take it. What tensors with one input share (its moments, and what
/// methods make of them) is made once as long as they come one after the other, and one input at a
/// time is in memory.
class PreparedInputs {
 public:
  /// The moments of a tensor's input; none: nothing is known of it.
  using Source = std::function<std::optional<quant::InputMoments>(const std::string& tensor)>;

  PreparedInputs(Source source, std::uint64_t seed, ThreadPool& pool)
      : source_(std::move(source)), seed_(seed), pool_(pool) {}
  /// `calibration` may be null: then there is nothing for any tensor.
  PreparedInputs(const io::Calibration* calibration, std::uint64_t seed, ThreadPool& pool);

  /// For EncodeContext; null where the tensor's input was not calibrated or the method makes no
  /// use of it. Lives until a tensor with another input is asked for.
  const quant::Prepared* prepared(const std::string& tensor, const quant::Spec& spec);
  /// Forgets the last input.
  void release();
  /// Null where the tensor's input was not calibrated. Lives as long.
  const quant::InputMoments* moments(const std::string& tensor);

 private:
  Source source_;
  std::uint64_t seed_;
  ThreadPool& pool_;
  std::string input_;                           // the last asked for
  std::optional<quant::InputMoments> moments_;  // of it
  std::map<PrepareKey, std::shared_ptr<const quant::Prepared>> prepared_;
};

}  // namespace squish::compress
