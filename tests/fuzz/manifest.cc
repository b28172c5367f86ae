// squish.json of a checkpoint; what is read is written again and read back.
#include "squish/io/checkpoint.h"
#include "squish/io/seal.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  const auto path = fuzz::put(io::kManifestFile, fuzz::text_of(data, size));
  fuzz::accepts([&] { io::open_checkpoint(fuzz::folder()); });
  fuzz::accepts([&] { io::check_seal(fuzz::folder()); });
  io::CheckpointJob job;
  if (!fuzz::accepts([&] { job = io::read_job(path); })) return 0;
  io::write_job(job, fuzz::folder());
  const io::CheckpointJob again = io::read_job(fuzz::folder() / io::kJobFile);
  fuzz::require(io::difference(job, again).empty() && io::job_digest(job) == io::job_digest(again),
                "what was written is what was read");
  return 0;
}
