#pragma once
#include "squish/base/error.h"

/// Jobs that can be resumed end at a place of their own choosing when the user (SIGINT) or the
/// system (SIGTERM) stops them, once they have saved what they have.
namespace squish {

class Interrupted : public Error {
 public:
  explicit Interrupted(int signal);
  int signal() const { return signal_; }

 private:
  int signal_;
};

/// From here on the two signals are only noted, once; the second ends the program where it is. The
/// first is answered by a line on standard error, unless `quiet` (of several ranks one says it).
void notice_interrupts(bool quiet = false);

/// Whether one of them has come.
bool interrupted();

/// Throws Interrupted if so.
void stop_if_interrupted();

}  // namespace squish
