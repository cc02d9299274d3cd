#include "launcher/images/build.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "cache/file_env.h"
#include "image/image_files.h"
#include "image/restraint.h"
#include "launcher/contract/tool_text.h"

namespace pylaunch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kUsageError = 2;
constexpr size_t kMaxNote = 4096;
constexpr size_t kMaxKey = size_t{256} << 20;
constexpr std::chrono::milliseconds kUntilSettled{2200};  // cache/stamp.h, kRacyWindowNs.
constexpr char kHint[] =
    "programs start without an image meanwhile; docs/image.md tells what prevents one";

int Refuse(const std::string& cause, const char* hint = kHint) {
  std::fprintf(stderr,
               "pylaunch: error: --image-build: no image was made\n  cause: %s\n  hint:  %s\n",
               cause.c_str(), hint);
  return 1;
}

// The entries that the image was made without.
std::vector<std::string> LateOf(const std::string& image) {
  const auto bytes = cache::PosixFileEnv().ReadFile(image::KeyOf(image), kMaxKey);
  const auto parsed = bytes ? image::Key::Parse(*bytes) : std::nullopt;
  return parsed ? parsed->late : std::vector<std::string>();
}

int Tell(const std::string& image, bool made, Clock::duration took, bool json) {
  const double seconds = std::chrono::duration<double>(took).count();
  struct stat st = {};
  stat(image.c_str(), &st);
  const auto bytes = static_cast<uint64_t>(st.st_size);
  const auto disk = static_cast<uint64_t>(st.st_blocks) * 512;
  const std::vector<std::string> late = LateOf(image);
  if (json) {
    Print({{"image", image},
           {"made", made},
           {"bytes", bytes},
           {"disk_bytes", disk},
           {"seconds", seconds},
           {"late", late}});
    return 0;
  }
  if (made) {
    std::printf("%s: made in %.1f s, %.1f MiB (%.1f on disk)\n", image.c_str(), seconds, MiB(bytes),
                MiB(disk));
  } else {
    std::printf("%s: already there\n", image.c_str());
  }
  for (const std::string& words : late) std::printf("  late     %s\n", words.c_str());
  return 0;
}

// The program's file if that is not there, so that nothing tells which folder's the image would be.
std::string MissingFile(const Options& options, const image::Facts& command) {
  const bool file = image::ValueOf(command, image::kProgramKind) == image::kFileKind;
  size_t at = options.program;
  if (file && options.python_argv[at] == "--") ++at;
  const bool missing = file && access(options.python_argv[at].c_str(), F_OK) != 0;
  return missing ? options.python_argv[at] : "";
}

// The exit status of a child; a signal that ended it ends this process, too.
int StatusOf(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return 1;
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  const rlimit none = {0, 0};  // The child's core is enough.
  setrlimit(RLIMIT_CORE, &none);
  signal(WTERMSIG(status), SIG_DFL);
  raise(WTERMSIG(status));
  return 128 + WTERMSIG(status);
}

// Whoever writes the image writes last what others need to adopt it, a second or two after it can
// be used here.
void AwaitDigests(const std::string& image) {
  const std::string digests = image::DigestsOf(image), folder = cache::FolderOf(image);
  while (access(digests.c_str(), F_OK) != 0 && image::IsBeingMade(folder)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// What may be asked of `query` once there is an image: --cache-mode refresh never finds one.
ImageAnswer LookAgain(const ImageQuery& query, char** environment) {
  Options options = query.options;
  options.cache_mode = CacheMode::kAuto;
  ImageQuery again{options,        query.plan,  query.python, query.engine,
                   query.restorer, query.hooks, query.folder, false};
  ImageAnswer answer = FindImage(again, environment);
  if (answer.fd >= 0) close(answer.fd);
  return answer;
}

}  // namespace

std::optional<int> BuildImage(const ImageQuery& query, char** environment, bool json) {
  const Clock::time_point started = Clock::now();
  const ImageAnswer there = FindImage(query, environment);
  if (there.fd >= 0) {
    close(there.fd);
    AwaitDigests(there.why);
    return Tell(there.why, /*made=*/false, {}, json);
  }
  if (there.order.folder.empty()) return Refuse(there.why);
  if (const std::string file = MissingFile(query.options, there.order.command); !file.empty()) {
    std::fprintf(stderr,
                 "pylaunch: error: --image-build: no such file: %s\n  hint:  name the program as "
                 "it will be started\n",
                 file.c_str());
    return kUsageError;
  }
  rlimit stack;
  if (getrlimit(RLIMIT_STACK, &stack) != 0 || stack.rlim_max != RLIM_INFINITY) {
    return Refuse("the hard limit of the stack is not 'unlimited'", "ulimit -Hs unlimited");
  }
  cache::FileEnv& env = cache::PosixFileEnv();
  if (auto made = env.MakeFolders(query.folder); !made) return Refuse(made.error().message);
  const std::string note_path =
      image::NoteFor(query.folder, there.order.command, there.order.facts);
  size_t late = there.order.late.size();
  for (bool again = false;;) {
    const pid_t child = fork();
    if (child == 0) return std::nullopt;
    if (child < 0) return Refuse(std::string("fork: ") + std::strerror(errno));
    if (const int status = StatusOf(child); status != 0) return status;
    const auto note = env.ReadFile(note_path, kMaxNote);
    if (note && !again && note->ends_with(image::kTooYoung)) {
      std::this_thread::sleep_for(kUntilSettled);
      again = true;
      continue;
    }
    if (note) return Refuse(*note);
    const ImageAnswer answer = LookAgain(query, environment);
    if (answer.fd < 0 && answer.order.late.size() > late) {  // It has found out what to leave out.
      late = answer.order.late.size();
      continue;
    }
    if (answer.fd < 0) {
      return Refuse(answer.why.starts_with("none") ? std::string(image::kUnfinished) : answer.why);
    }
    AwaitDigests(answer.why);
    return Tell(answer.why, /*made=*/true, Clock::now() - started, json);
  }
}

}  // namespace pylaunch
