// A results file on the page, and the log and plan of a checkpoint, in which nothing is trusted.
#include <filesystem>

#include "squish/compress/log.h"
#include "squish/compress/target.h"
#include "squish/io/checkpoint.h"
#include "squish/report/page.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace squish;
  const auto path = fuzz::put("results.json", fuzz::text_of(data, size));
  fuzz::accepts([&] {
    report::Page page;
    report::add_source(page, path);
    fuzz::require(report::to_html(page).ends_with("</html>\n"), "the page is whole");
  });
  static const bool has_manifest = [] {  // for a log to belong to
    const std::string tensor = "model.layers.0.mlp.up_proj.weight";
    io::CheckpointJob job;
    job.spec = "int4";
    job.tensors = {{tensor, job.spec}};
    io::write_job(job, fuzz::folder());
    std::filesystem::rename(fuzz::folder() / io::kJobFile, fuzz::folder() / io::kManifestFile);
    return true;
  }();
  fuzz::require(has_manifest, "there is a manifest");
  fuzz::put(compress::kLogFile, fuzz::text_of(data, size));
  fuzz::put(compress::kPlanFile, fuzz::text_of(data, size));
  fuzz::accepts([] { compress::tensor_log(fuzz::folder()); });
  fuzz::accepts([] { compress::logged_cost(fuzz::folder()); });
  return 0;
}
