// SPDX-License-Identifier: Apache-2.0
// rnbd-sim: simulated runs of both programs, each in a process of its own, for as long as asked
// for. A run that fails is one command to see again.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/log.h"
#include "simulator/run.h"

namespace {

using namespace rnbd;
using namespace rnbd::simulator;

struct Options {
  std::uint64_t seed = 0;
  std::uint64_t runs = 1;
  unsigned seconds = 0;
  double minutes = 0;  ///< of each run; 0: one, times the tempo
  unsigned tempo = 0;  ///< 0: of the seed
  bool follow = false;
};

/// Of all runs of this process.
struct Sums {
  std::uint64_t runs = 0;
  std::uint64_t answered = 0;
  std::uint64_t faults = 0;
  double minutes = 0;
};

/// Of the run with this seed: from all at once, which finds what meets by chance, to outages of up
/// to an hour, which finds what waits.
unsigned tempo_of(std::uint64_t seed) {
  constexpr std::array<unsigned, 4> kTempos = {1, 8, 64, 256};
  std::mt19937_64 random(seed);
  return kTempos[random() % kTempos.size()];
}

constexpr unsigned kRunSeconds = 300;  ///< of real time; a run that takes longer hangs

class Directory {
 public:
  Directory() {
    std::string name = "/var/tmp/rnbd-sim.XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
    make_disk_files(path_);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

[[noreturn]] void run_in_child(const RunOptions& options, int results) {
  ::alarm(kRunSeconds);
  const rlimit many{65536, 65536};
  ::setrlimit(RLIMIT_NOFILE, &many);
  Run run(options);
  const RunResult result = run.go();
  if (!result.passed) fmt::print(stderr, "{}\n", result.why);
  const std::array<std::uint64_t, 2> counts = {result.answered, result.faults};
  const bool told = ::write(results, counts.data(), sizeof counts) == sizeof counts;
  ::_exit(result.passed && told ? 0 : 1);
}

/// False: it failed.
bool run_one(const RunOptions& options, Sums& sums) {
  std::array<int, 2> results{};
  if (::pipe(results.data()) != 0) throw std::runtime_error("no pipe");
  const pid_t child = ::fork();
  if (child == 0) run_in_child(options, results[1]);
  ::close(results[1]);
  std::array<std::uint64_t, 2> counts{};
  const bool told = ::read(results[0], counts.data(), sizeof counts) == sizeof counts;
  ::close(results[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ++sums.runs;
  sums.answered += counts[0];
  sums.faults += counts[1];
  return told && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int run_all(const char* program, const Options& options) {
  const Directory directory;
  const auto begin = std::chrono::steady_clock::now();
  const auto passed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  Sums sums;
  const auto wanted = [&] {
    return options.seconds != 0 ? passed() < options.seconds : sums.runs < options.runs;
  };
  for (std::uint64_t seed = options.seed; wanted(); ++seed) {
    const unsigned tempo = options.tempo != 0 ? options.tempo : tempo_of(seed);
    const double minutes = options.minutes != 0 ? options.minutes : tempo;
    const auto length = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double, std::ratio<60>>(minutes));
    if (!run_one({.seed = seed,
                  .tempo = tempo,
                  .length = length,
                  .directory = directory.path(),
                  .follow = options.follow},
                 sums)) {
      fmt::print(
          "seed {} FAILED; again, with everything that happens:\n  {} --seed {} --tempo {} "
          "--minutes {} "
          "--follow\n",
          seed, program, seed, tempo, minutes);
      return 1;
    }
    sums.minutes += minutes;
  }
  fmt::print(
      "{} runs passed: {} requests, {} faults, {:.0f} minutes in {:.0f} s ({:.0f} a minute)\n",
      sums.runs, sums.answered, sums.faults, sums.minutes, passed(), sums.minutes / passed() * 60);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Simulated runs of server and clients, with faults, checked against a model"};
  Options options;
  options.seed = std::random_device{}();
  app.add_option("--seed", options.seed, "of the first run; the next ones follow (default: fresh)");
  app.add_option("--runs", options.runs, "how many")->capture_default_str();
  app.add_option("--for", options.seconds, "as many as fit into so many seconds");
  app.add_option("--minutes", options.minutes, "simulated, of each run (default: its tempo)")
      ->check(CLI::Range(0.01, 1e6));
  app.add_option(
         "--tempo", options.tempo,
         "how many times as far apart things are as when all is at once (default: of the seed)")
      ->check(CLI::Range(1, 10000));
  app.add_flag("--follow", options.follow, "print what happens");
  CLI11_PARSE(app, argc, argv);
  log::start(options.follow ? "debug" : "off");
  return run_all(argv[0], options);
}
