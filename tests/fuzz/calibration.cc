// What squish calibrate wrote; what is read is written again and read back.
#include "squish/io/calibration.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  static ThreadPool pool(1);
  const auto path = fuzz::put("calib", fuzz::text_of(data, size));
  io::Calibration read;
  if (!fuzz::accepts([&] { read = io::read_calibration(path); })) return 0;
  const bool is_whole = fuzz::accepts([&] { io::check_values(read); });
  for (const auto& [name, sums] : read.inputs) {
    fuzz::accepts([&] { read.moments(name + ".weight"); });
  }
  if (!is_whole) return 0;
  const auto again = fuzz::folder() / "again";
  io::write_calibration(again, read, pool);
  const io::Calibration back = io::read_calibration(again);
  fuzz::require(back.source == read.source && back.text_lines == read.text_lines &&
                    back.inputs.size() == read.inputs.size(),
                "what was written is what was read");
  io::check_values(back);
  return 0;
}
