#include "squish/base/interrupt.h"

#include <signal.h>

#include <atomic>

#include "squish/base/text.h"

namespace squish {
namespace {

std::atomic<int> noted{0};
std::atomic<bool> is_quiet{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

extern "C" void note(int signal) {
  noted = signal;
  if (is_quiet) return;
  write_error("\nstopping at the next place to save at; once more to stop at once\n");
}

}  // namespace

Interrupted::Interrupted(int signal)
    : Error(fmt::format("stopped by {}; the same command with --resume goes on",
                        signal == SIGINT ? "SIGINT" : "SIGTERM")),
      signal_(signal) {}

void notice_interrupts(bool quiet) {
  is_quiet = quiet;
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

bool interrupted() { return noted != 0; }

void stop_if_interrupted() {
  if (interrupted()) throw Interrupted(noted);
}

}  // namespace squish
