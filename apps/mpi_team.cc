#include "apps/mpi_team.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "squish/base/error.h"
#include "squish/base/interrupt.h"
#include "squish/base/text.h"

#ifdef SQUISH_MPI
#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>
#endif

namespace squish::apps {
namespace {

constexpr const char *kStepTasks = "SLURM_STEP_NUM_TASKS", *kPmixRank = "PMIX_RANK";

/// What the launcher says of how many processes it started together.
struct Launch {
  std::string variable;  // which says it; empty: no launcher
  int size = 1;          // 0: only MPI knows
};

Launch find_launch() {
  // The last is of the step that srun starts: not there in a batch script, whatever its job has.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", kStepTasks}) {
    if (const char* const text = std::getenv(name)) return {name, std::max(1, std::atoi(text))};
  }
  if (std::getenv(kPmixRank) != nullptr) return {kPmixRank, 0};
  return {};
}

#ifdef SQUISH_MPI

// MPI's own waiting burns a core; here everybody looks and sleeps. Work is minutes long.
constexpr std::chrono::microseconds kPause{500};
constexpr std::chrono::seconds kPatience{60};  // with a leader that does not end a failed job
enum Tag : int { kRequest = 1, kReply, kFailure };
constexpr std::uint64_t kNone = ~std::uint64_t{0};

/// The items of one share(), handed out and taken in by the leader's two threads.
class Deal {
 public:
  Deal(std::size_t count, const Team::Collect& collect) : count_(count), collect_(collect) {}

  /// The next item; kNone: there is none, or no more are wanted.
  std::uint64_t take() {
    const std::lock_guard lock(mutex_);
    return stopped_ || next_ == count_ ? kNone : next_++;
  }
  void collect(std::size_t item, int rank, std::string result) {
    const std::lock_guard lock(mutex_);
    if (!stopped_) collect_(item, rank, std::move(result));
  }

  /// In a handler: the first exception is kept, and no more is handed out or taken in.
  void stop() {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
    stopped_ = true;
  }
  bool stopped() const { return stopped_; }
  void rethrow() const {
    if (!error_) return;
    stop_if_interrupted();  // others may have said first that they were stopped, too
    std::rethrow_exception(error_);
  }

 private:
  const std::size_t count_;
  const Team::Collect& collect_;
  std::mutex mutex_;  // of all that follows
  std::size_t next_ = 0;
  std::exception_ptr error_;
  std::atomic<bool> stopped_ = false;
};

class MpiTeam : public Team {
 public:
  explicit MpiTeam(const Launch& launch) {
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    if (launch.size > 0 && launch.size != size_) {  // else each would do the whole job
      MPI_Finalize();
      fail("{} says {} ranks, MPI says {}: expected the mpirun of {}, which squish was built with",
           launch.variable, launch.size, size_, library());
    }
    if (provided < MPI_THREAD_SERIALIZED) fail("this MPI does not support threads");
    int local = 1;
    threads_ = share_of_cores(local);
    const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
    if (leads() && threads_ == 1 && cores >= 2L * local) {
      fmt::print(stderr, "each rank has 1 of {} cores; mpirun --bind-to none gives it {}\n", cores,
                 cores / local);
    }
  }
  ~MpiTeam() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int threads() const override { return threads_; }

  std::string broadcast(std::string text) override {
    std::uint64_t size = text.size();
    MPI_Request request;
    MPI_Ibcast(&size, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD, &request);
    wait(request);
    text.resize(size);
    MPI_Ibcast(text.data(), static_cast<int>(size), MPI_BYTE, 0, MPI_COMM_WORLD, &request);
    wait(request);
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    wait(request);
    return text;
  }

  void merge(std::span<std::byte> bytes) override {
    constexpr std::size_t kPiece = std::size_t{1} << 26;
    for (; !bytes.empty(); bytes = bytes.subspan(std::min(kPiece, bytes.size()))) {
      MPI_Request request;
      MPI_Iallreduce(MPI_IN_PLACE, bytes.data(), static_cast<int>(std::min(kPiece, bytes.size())),
                     MPI_BYTE, MPI_BOR, MPI_COMM_WORLD, &request);
      wait(request);
    }
  }

  void share(std::size_t count, const Work& work, const Collect& collect) override {
    leads() ? lead(count, work, collect) : follow(work);
  }

  void give_up(int code, const std::string& sentence) override {
    if (!leads()) {
      MPI_Request request;
      MPI_Isend(sentence.data(), static_cast<int>(sentence.size()), MPI_BYTE, 0, kFailure,
                MPI_COMM_WORLD, &request);
      const auto end = std::chrono::steady_clock::now() + kPatience;
      for (int sent = 0; std::chrono::steady_clock::now() < end;) {
        if (sent == 0) MPI_Test(&request, &sent, MPI_STATUS_IGNORE);
        std::this_thread::sleep_for(kPause);
      }
    }
    if (!leads()) say_failure(fmt::format("rank {}: {}", rank_, sentence));
    MPI_Abort(MPI_COMM_WORLD, code);
  }

 private:
  /// "Open MPI v4.1.4", without what it says besides.
  static std::string library() {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int size = 0;
    MPI_Get_library_version(text, &size);
    return std::string(text).substr(0, std::string_view(text).find_first_of(",\n"));
  }

  /// `local` is how many ranks this machine has. Those that may use the same cores share them out.
  int share_of_cores(int& local) const {
    MPI_Comm node;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &local);
    cpu_set_t own;
    CPU_ZERO(&own);
    sched_getaffinity(0, sizeof own, &own);
    std::vector<cpu_set_t> all(static_cast<std::size_t>(local));
    MPI_Allgather(&own, sizeof own, MPI_BYTE, all.data(), sizeof own, MPI_BYTE, node);
    MPI_Comm_free(&node);
    int sharing = 0;
    for (const cpu_set_t& other : all) {
      cpu_set_t both;
      CPU_AND(&both, &own, &other);
      sharing += CPU_COUNT(&both) > 0;
    }
    return std::max(1, CPU_COUNT(&own) / std::max(1, sharing));
  }

  static std::string receive(const MPI_Status& status) {
    int size = 0;
    MPI_Get_count(&status, MPI_BYTE, &size);
    std::string text(static_cast<std::size_t>(size), '\0');
    MPI_Recv(text.data(), size, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
    return text;
  }

  /// What a rank said that has given up, for the leader; empty: none has.
  static std::string failure() {
    int is_there = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, kFailure, MPI_COMM_WORLD, &is_there, &status);
    return is_there == 0 ? "" : fmt::format("rank {}: {}", status.MPI_SOURCE, receive(status));
  }
  static void check_failures() {
    if (const std::string said = failure(); !said.empty()) fail("{}", said);
  }

  void wait(MPI_Request& request) const {
    for (int done = 0;; std::this_thread::sleep_for(kPause)) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done != 0) return;
      if (leads()) check_failures();
    }
  }

  static std::string message(std::uint64_t item, const std::string& result) {
    std::string bytes(sizeof item, '\0');
    std::memcpy(bytes.data(), &item, sizeof item);
    return bytes + result;
  }

  /// The leader's part: a thread of its own talks to the others, while this one works as they do.
  void lead(std::size_t count, const Work& work, const Collect& collect) {
    Deal deal(count, collect);
    std::thread clerk([&] { serve(deal); });
    try {
      for (std::uint64_t item = deal.take(); item != kNone; item = deal.take()) {
        deal.collect(item, 0, work(item));
      }
    } catch (...) {
      deal.stop();
    }
    clerk.join();
    deal.rethrow();
  }

  /// Takes in what the others have done and gives them the next, until none has any or one fails.
  void serve(Deal& deal) const {
    for (int at_work = size_ - 1; at_work > 0 && !deal.stopped();) {
      int is_there = 0;
      MPI_Status status;
      MPI_Iprobe(MPI_ANY_SOURCE, kRequest, MPI_COMM_WORLD, &is_there, &status);
      try {
        if (is_there == 0) {
          end_with_failed();
          std::this_thread::sleep_for(kPause);
          continue;
        }
        const std::string request = receive(status);
        std::uint64_t done = kNone;
        std::memcpy(&done, request.data(), sizeof done);
        if (done != kNone) deal.collect(done, status.MPI_SOURCE, request.substr(sizeof done));
      } catch (...) {
        deal.stop();
        return;
      }
      const std::uint64_t item = deal.take();
      at_work -= item == kNone;
      MPI_Send(&item, 1, MPI_UINT64_T, status.MPI_SOURCE, kReply, MPI_COMM_WORLD);
    }
  }

  /// Where a rank has given up: at once, as the leader itself may be at work for hours.
  static void end_with_failed() {
    const std::string said = failure();
    if (said.empty()) return;
    if (interrupted()) fail("{}", said);
    say_failure(said);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }

  void follow(const Work& work) {
    std::string request = message(kNone, "");
    for (;;) {
      MPI_Request sent, received;
      std::uint64_t item = kNone;
      MPI_Isend(request.data(), static_cast<int>(request.size()), MPI_BYTE, 0, kRequest,
                MPI_COMM_WORLD, &sent);
      MPI_Irecv(&item, 1, MPI_UINT64_T, 0, kReply, MPI_COMM_WORLD, &received);
      wait(sent);
      wait(received);
      if (item == kNone) return;
      request = message(item, work(item));
    }
  }

  int rank_ = 0, size_ = 1, threads_ = 1;
};

#endif

}  // namespace

std::unique_ptr<Team> join_team() {
  const Launch launch = find_launch();
  if (launch.size == 1) return std::make_unique<Team>();
#ifdef SQUISH_MPI
  if (launch.variable == kStepTasks && std::getenv(kPmixRank) == nullptr) {
    fail(
        "one of srun's {} tasks, which it did not tell of one another: expected srun --mpi=pmix "
        "(or, for tasks that have nothing in common, {} unset)",
        launch.size, kStepTasks);
  }
  return std::make_unique<MpiTeam>(launch);
#else
  fail("started as one of several ranks ({} is {}), but this squish was built without MPI",
       launch.variable, std::getenv(launch.variable.c_str()));
#endif
}

}  // namespace squish::apps
