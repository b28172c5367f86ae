#pragma once
#include <memory>

#include "squish/base/team.h"

namespace squish::apps {

/// The ranks that this process was started among by mpirun or srun; where it was not, this process
/// alone, and MPI is not touched. Error if it was, and this program was built without MPI or for
/// another launcher's.
std::unique_ptr<Team> join_team();

}  // namespace squish::apps
