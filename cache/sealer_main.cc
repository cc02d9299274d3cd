// pylaunch-sealer [--detach] [--verbose] FD: carries out the SealJob that lies in the
// inherited memfd FD. Exit status 0 if the archive has what it should, else 1. A program of its
// own, so that compressing and writing go on after the program that asked has ended; linked
// statically, so that it starts in a millisecond in whatever environment that program had.

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "cache/close_range.h"
#include "cache/file_env.h"
#include "cache/note.h"
#include "cache/seal.h"

namespace pylaunch::cache {
namespace {

Result<SealJob> ReadJob(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0 || st.st_size <= 0) {
    return MakeError(ErrorCode::kIo, "sealer: no job in the descriptor");
  }
  const size_t size = static_cast<size_t>(st.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) return MakeError(ErrorCode::kIo, "sealer: cannot map the job");
  const MappedFile file(static_cast<const char*>(data), size, st);
  return SealJob::Parse(file.view());
}

int Report(const Error& error, bool verbose) {
  if (verbose) std::fprintf(stderr, "pylaunch: error: %s\n", error.message.c_str());
  return 1;
}

int Run(int fd, bool verbose) {
  const auto job = ReadJob(fd);
  if (!job) return Report(job.error(), verbose);
  FileEnv& env = PosixFileEnv();
  const auto outcome = Seal(env, *job);
  if (!outcome) {
    // A busy lock is no failure: who holds it writes, and the next start asks again.
    if (outcome.error().code != ErrorCode::kBusy) {
      LeaveNote(env, job->archive_path, outcome.error().message);
    }
    return Report(outcome.error(), verbose);
  }
  if (verbose) {
    std::fprintf(stderr, "pylaunch: archive: %s: %u added, %u kept, %u dropped%s\n",
                 job->archive_path.c_str(), outcome->added, outcome->kept, outcome->dropped,
                 outcome->written ? "" : "; not rewritten");
  }
  return 0;
}

// Nothing of the program that started us stays open here: `$(pylaunch ...)` returns when the
// program ends, not when we do.
void LetGoOfEverythingBut(int fd, bool keep_stderr) {
  const int null = open("/dev/null", O_RDWR);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  if (!keep_stderr) dup2(null, STDERR_FILENO);
  if (fd > STDERR_FILENO + 1) CloseRange(STDERR_FILENO + 1, static_cast<unsigned>(fd) - 1);
  CloseRange(static_cast<unsigned>(fd) + 1, ~0U);
  if (chdir("/") != 0) return;  // Holds no mount busy, where it can.
}

// The caller goes on in a process that is nobody's child; the first one ends.
void Detach() {
  if (fork() != 0) _exit(0);
}

}  // namespace
}  // namespace pylaunch::cache

int main(int argc, char** argv) try {
  bool verbose = false;
  bool detach = false;
  int fd = -1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--verbose") {
      verbose = true;
    } else if (std::string_view(argv[i]) == "--detach") {
      detach = true;
    } else {
      fd = std::atoi(argv[i]);
    }
  }
  if (fd <= 0) {
    std::fputs("pylaunch: error: pylaunch-sealer is started by pylaunch\n", stderr);
    return 1;
  }
  signal(SIGXFSZ, SIG_IGN);  // A write beyond RLIMIT_FSIZE fails, and what it had begun is removed.
  pylaunch::cache::LetGoOfEverythingBut(fd, verbose);
  if (detach) pylaunch::cache::Detach();
  // Behind the program that it works for. -1 may be a valid niceness; either way we go on.
  if (nice(5) == -1) (void)0;
  return pylaunch::cache::Run(fd, verbose);
} catch (const std::exception&) {
  return 1;
}
