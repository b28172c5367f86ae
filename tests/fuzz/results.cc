// A results file on the page, and the log and plan of a checkpoint, in which nothing is trusted.
#include "squish/compress/log.h"
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
  fuzz::put(compress::kLogFile, fuzz::text_of(data, size));
  fuzz::put("squish.plan.json", fuzz::text_of(data, size));
  fuzz::accepts([&] {
    compress::tensor_log(fuzz::folder());
    compress::logged_cost(fuzz::folder());
  });
  return 0;
}
