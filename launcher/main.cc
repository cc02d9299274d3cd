// The front end: argv -> options -> which Python -> execve of that Python with our engine preloaded
// by the dynamic loader. Nearly all starts are over before main() is called: usual_start.cc. It is
// static and knows no libpython, so that it costs one cheap execve; everything else happens in the
// real executable, which is why /proc/self/exe, a debugger and the loader's map see what they see
// under stock python.

#include <fcntl.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cache/check.h"
#include "cache/prune.h"
#include "image/image_files.h"
#include "launcher/command_line/completion.h"
#include "launcher/command_line/helpers.h"
#include "launcher/command_line/options.h"
#include "launcher/command_line/output_file.h"
#include "launcher/command_line/preload_file.h"
#include "launcher/contract/handoff.h"
#include "launcher/contract/program_loader.h"
#include "launcher/images/adopt.h"
#include "launcher/images/build.h"
#include "launcher/images/lookup.h"
#include "launcher/init/init.h"
#include "launcher/own_files.h"
#include "launcher/python_home/python_home.h"
#include "launcher/tools/archive_tools.h"
#include "launcher/tools/doctor_request.h"
#include "launcher/workers/supervisor.h"

extern char** environ;

namespace pylaunch {
namespace {

constexpr int kUsageError = 2;

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "pylaunch: error: %s\n", std::string(status.message()).c_str());
  return kUsageError;
}

std::string Getenv(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// A "._pth" file beside the path that Python was started by, symbolic links not resolved, is all
// that CPython goes by, from 3.11 on (Modules/getpath.py). The path, absolute, if there is such a
// file and this is such a Python; else empty.
std::string StartedBesidePth(const char* argv0, const PythonHome& home) {
  if (home.minor < 11) return "";
  if (std::strchr(argv0, '/') == nullptr) {  // Found on PATH.
    argv0 = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  }
  if (argv0 == nullptr || access(absl::StrCat(argv0, "._pth").c_str(), R_OK) != 0) return "";
  char cwd[4096];
  if (argv0[0] == '/' || getcwd(cwd, sizeof cwd) == nullptr) return argv0;
  return absl::StrCat(cwd, "/", argv0);
}

std::string EngineName(const PythonHome& home) {
  return absl::StrCat(kEnginePrefix, home.major, ".", home.minor, ".so");
}

// Why the engine cannot enter a Python; no cause: it can.
struct Obstacle {
  std::string cause;
  std::string hint;
  // As lines of a report.
  std::string Report() const {
    return absl::StrCat("\n  cause: ", cause, hint.empty() ? "" : "\n  hint:  ", hint);
  }
};

Obstacle WhyNotEnter(const PythonHome& home, const OwnFiles& own, const std::string& engine) {
  if (home.implementation != "cpython")
    return {absl::StrCat("it is ", home.implementation, ", not CPython"), ""};
  if (home.free_threaded) return {"it is a free-threaded build", ""};
  if (IsMuslLoader(home.loader.c_str())) {
    return {
        absl::StrCat("it is a program of musl's (", home.loader, "), and the engine is for glibc"),
        "a Python of Debian, Ubuntu, Fedora and their like has glibc; Alpine's has musl"};
  }
  if (own.library.empty()) return {own.cause, own.hint};
  if (access(engine.c_str(), R_OK) == 0) return {};
  if (errno == ENOENT) {
    return {absl::StrCat("there is no engine for CPython ", home.major, ".", home.minor), ""};
  }
  return {absl::StrCat("its engine cannot be read: ", engine, ": ", std::strerror(errno)),
          "let everybody read what was installed: chmod -R a+rX"};
}

class Environment {
 public:
  explicit Environment(char** from) {
    for (; *from != nullptr; ++from) entries_.push_back(*from);
  }
  void Set(const std::string& name, const std::string& value) {
    std::string entry = absl::StrCat(name, "=", value);
    if (std::string* old = Find(name)) {
      *old = entry;
    } else {
      entries_.push_back(std::move(entry));
    }
  }
  void Apply(const std::vector<EnvSetting>& settings) {
    for (const EnvSetting& s : settings) {
      if (!s.only_if_unset || Find(s.name) == nullptr) Set(s.name, s.value);
    }
  }
  void Remove(const std::string& name) {
    std::erase_if(entries_, [&](const std::string& e) {
      return absl::StartsWith(e, name) && e.size() > name.size() && e[name.size()] == '=';
    });
  }
  // LD_PRELOAD keeps its place, and the handoff stands last: the engine takes both back in place.
  void Prepend(const std::string& name, const std::string& value) {
    std::string* old = Find(name);
    Set(name, old == nullptr ? std::string(value)
                             : absl::StrCat(value, ":", old->substr(name.size() + 1)));
  }
  // What stands later counts.
  void Append(const std::string& name, const std::string& value) {
    std::string* old = Find(name);
    Set(name, old == nullptr ? value : absl::StrCat(old->substr(name.size() + 1), ":", value));
  }
  std::vector<char*> Block() {
    std::vector<char*> block;
    for (std::string& e : entries_) block.push_back(e.data());
    block.push_back(nullptr);
    return block;
  }

 private:
  std::string* Find(const std::string& name) {
    for (std::string& e : entries_) {
      if (absl::StartsWith(e, name) && e.size() > name.size() && e[name.size()] == '=') return &e;
    }
    return nullptr;
  }
  std::vector<std::string> entries_;
};

int Exec(const std::string& program, const std::vector<std::string>& args,
         Environment& environment) {
  std::vector<char*> argv;
  for (const std::string& a : args) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  execve(program.c_str(), argv.data(), environment.Block().data());
  std::fprintf(stderr, "pylaunch: error: cannot run %s\n  cause: %s\n", program.c_str(),
               std::strerror(errno));
  return kUsageError;
}

// The dynamic loader splits LD_PRELOAD at colons and blanks (ld.so(8)); a path that has some goes
// by way of a descriptor, which survives execve. -1: not needed.
int EngineDescriptor(const std::string& engine, Obstacle* obstacle) {
  if (engine.find_first_of(": ") == std::string::npos) return -1;
  const int fd = open(engine.c_str(), O_RDONLY);
  if (access(absl::StrCat("/proc/self/fd/", fd).c_str(), R_OK) != 0) {
    *obstacle = {absl::StrCat("the path of its engine has a blank or a colon, which the dynamic ",
                              "loader takes for an end, and /proc is not mounted: ", engine),
                 "mount /proc, or install pylaunch where neither is in its path"};
  }
  return fd;
}

// While it lives, what RLIMIT_FSIZE forbids fails, as in Python, and does not end the process.
class NoFileSizeSignal {
 public:
  NoFileSizeSignal() : before_(signal(SIGXFSZ, SIG_IGN)) {}
  ~NoFileSizeSignal() { signal(SIGXFSZ, before_); }
  NoFileSizeSignal(const NoFileSizeSignal&) = delete;
  NoFileSizeSignal& operator=(const NoFileSizeSignal&) = delete;

 private:
  sighandler_t before_;
};

// Writes all of it, or returns false.
bool WriteTo(int fd, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

// For what a pipe can hold with nobody reading.
int FilledPipe(const std::string& bytes) {
  int ends[2];
  if (pipe2(ends, O_NONBLOCK) != 0) return -1;
  const bool written = WriteTo(ends[1], bytes);
  close(ends[1]);
  return written ? ends[0] : -1;
}

// Returns the descriptor, which survives execve, or -1. RLIMIT_FSIZE is for memory files, too
// (mm/shmem.c: generic_write_checks), but not for pipes.
int MemoryFile(const std::string& bytes) {
  int fd = memfd_create("pylaunch", 0);
  if (fd < 0) return -1;
  NoFileSizeSignal no_signal;
  if (WriteTo(fd, bytes)) return fd;
  close(fd);
  return FilledPipe(bytes);
}

// Values of kHandoffVariable.
std::string ForEngine(int handoff, int engine) {
  std::string value;
  PutEngineHandoff(handoff, engine, getpid(), [&value](char c) { value += c; });
  return value;
}

std::string ForImage(int handoff, const OpenImage& image, const std::string& python) {
  std::string value;
  PutImageHandoff(handoff, image.fd, getpid(), image.moved, image.inodes.c_str(), python.c_str(),
                  [&value](char c) { value += c; });
  return value;
}

int Version(const PythonHome& home) {
  std::printf("Python %s (pylaunch %s, engine cpython-%d.%d, archive format %d)\n",
              home.version.c_str(), PYLAUNCH_VERSION, home.major, home.minor,
              static_cast<int>(cache::FormatVersion()));
  return 0;
}

// Becomes the Python that is examined, without the engine: what is wrong must be Python's own.
int Doctor(const Options& options, const PythonHome& home, const OwnFiles& own,
           const Handoff& handoff, Environment& environment) {
  if (own.library.empty()) {
    return Fail(absl::NotFoundError(
        absl::StrCat("there is no doctor", Obstacle{own.cause, own.hint}.Report())));
  }
  int fd = MemoryFile(DoctorRequest(options, home, handoff.plan));
  if (fd < 0) {
    return Fail(absl::InternalError(absl::StrCat("no memory file: ", std::strerror(errno))));
  }
  const std::string script = absl::StrCat(handoff.LibraryFile(kDoctorFolder), "/__main__.py");
  return Exec(home.executable, DoctorArguments(options, home, script, fd), environment);
}

ImageQuery QueryFor(const Options& options, const std::string& engine, const Handoff& handoff) {
  const std::string& cache = handoff.cache_folder;
  return {options,
          handoff.plan,
          handoff.python,
          engine,
          handoff.LibraryFile(image::kRestorer),
          handoff.LibraryFile(kResumeFolder),
          cache.empty() ? "" : cache + "/" + image::kImagesFolder,
          options.explain};
}

// The image to start from, if there is one; else `handoff` says whether one is to be made.
OpenImage LookUpImage(const ImageQuery& query, Handoff* handoff) {
  ImageAnswer answer = FindImage(query, environ);
  if (answer.fd < 0 && !answer.order.folder.empty()) {
    if (MakeRoom()) {
      handoff->image = std::move(answer.order);
    } else {
      answer.why += "; none can be made: the hard limit of the stack is not 'unlimited'";
    }
  }
  if (handoff->explain) {
    std::fprintf(stderr, "pylaunch: explain: image: %s\n", answer.why.c_str());
    if (!answer.note.empty()) {
      std::fprintf(stderr, "pylaunch: explain: image: %s\n", answer.note.c_str());
    }
  }
  return {answer.fd, std::move(answer.inodes), answer.moved, ""};
}

// The helper of others that this process is, unless it is told by a flag what to preload, or is to
// do something else instead.
std::optional<Helper> SparedHelper(const Options& options) {
  const bool asked = std::any_of(
      options.preload.begin(), options.preload.end(),
      [](const Options::PreloadArgument& argument) { return argument.source == "--preload"; });
  const bool wishes = !options.preload.empty() || options.image;
  if (asked || !wishes || options.needs_engine() || options.doctor) return std::nullopt;
  return FindHelper(options);
}

// A helper has an image or nothing.
void Spare(const Helper& helper, Handoff* handoff) {
  handoff->plan.entries.clear();
  if (handoff->explain) {
    std::fprintf(stderr, "pylaunch: explain: nothing is preloaded: %s runs no code of the user's\n",
                 helper.name.c_str());
  }
}

// What is to be preloaded, and what is to be written.
absl::Status ReadArguments(const Options& options, Handoff* handoff) {
  for (const Options::PreloadArgument& p : options.preload) {
    absl::Status status = AddPreloadArgument(p.text, p.source, &handoff->plan);
    if (!status.ok()) return status;
  }
  handoff->directives = handoff->plan.directives.Lines();
  for (auto& [option, file, to] : {std::tie("--record", options.record, handoff->record),
                                   std::tie("--report", options.report, handoff->report),
                                   std::tie("--export", options.export_to, handoff->export_to)}) {
    if (file.empty()) continue;
    absl::StatusOr<std::string> path = OutputFile(option, file);
    if (!path.ok()) return path.status();
    to = *path;
  }
  return absl::OkStatus();
}

// What needs no Python; nullopt: it is not asked for.
std::optional<int> RunTool(const Options& options, const Handoff& handoff) {
  if (!options.stats && !options.verify && !options.prune) return std::nullopt;
  const CachePlace cache = {handoff.cache_folder, WhyNoCacheFolder(Getenv)};
  if (options.stats) return Stats(cache, environ, options.json);
  if (options.verify) return Verify(cache, environ, options.json);
  return Prune(cache, handoff.cache_size, options.json);
}

absl::StatusOr<PythonHome> ChoosePython(const Options& options, const OwnFiles& own,
                                        const std::string& cache_folder) {
  HomeQuery query{options.python, own.self, cache_folder, Getenv};
  query.exact_version = options.version || options.explain || options.doctor;
  NoFileSizeSignal no_signal;  // What it finds, it writes down.
  return FindPython(query);
}

// Says why nothing will be archived, if --explain asks.
void ExplainCache(const Options& options, const std::string& folder) {
  if (!options.explain || !(folder.empty() || options.cache_mode == CacheMode::kOff)) return;
  std::fprintf(stderr, "pylaunch: explain: archive: none: %s\n",
               folder.empty() ? WhyNoCacheFolder(Getenv).c_str() : "--cache-mode off");
}

// All that the engine is told, but for the image.
void FillHandoff(const Options& options, const PythonHome& home, Handoff* handoff) {
  handoff->python = StartedBesidePth(options.python_argv[0].c_str(), home);
  if (handoff->python.empty()) handoff->python = home.executable;
  if (options.cache_mode == CacheMode::kOff) handoff->cache_folder.clear();
  handoff->cache_readonly = options.cache_mode == CacheMode::kReadonly;
  handoff->cache_sealed = options.cache_mode == CacheMode::kSealed;
  handoff->cache_refresh = options.cache_mode == CacheMode::kRefresh;
  handoff->explain = options.explain;
  const bool preloads = !handoff->plan.entries.empty() || options.image || options.image_build;
  handoff->fast_exit = options.fast_exit.value_or(preloads);
  handoff->json = options.json;
  handoff->import_from = options.import_from;
  handoff->only_shared = options.image_shared;
  handoff->build = options.build;
}

// Sets `image` to the one to start from, if there is one. Returns the exit code if this process is
// done with that.
std::optional<int> ChooseImage(const Options& options, const std::string& engine, Handoff* handoff,
                               OpenImage* image) {
  if (options.needs_engine() ? !options.image_build : !options.image) return std::nullopt;
  const ImageQuery query = QueryFor(options, engine, *handoff);
  if (options.image_build) {
    const std::optional<int> done = BuildImage(query, environ, options.json);
    if (done) return done;
    handoff->image_only = true;
  }
  *image = LookUpImage(query, handoff);
  if (handoff->image_only && image->fd >= 0) return 0;  // Somebody else was quicker.
  return std::nullopt;
}

// Becomes the Python alone; what only the engine can do fails.
int LaunchWithout(const Obstacle& obstacle, const PythonHome& home, Options& options,
                  Environment& environment) {
  if (options.needs_engine()) {
    return Fail(absl::FailedPreconditionError(
        absl::StrCat("cannot enter ", home.executable, obstacle.Report())));
  }
  const std::string why =
      obstacle.hint.empty() ? absl::StrCat(": ", obstacle.cause) : obstacle.Report();
  std::fprintf(stderr, "pylaunch: warning: running %s without pylaunch%s\n",
               home.executable.c_str(), why.c_str());
  options.python_argv[0] = home.executable;
  return Exec(home.executable, options.python_argv, environment);
}

// Becomes the Python with the engine in it, or an image of one.
int Launch(const PythonHome& home, const std::string& engine, int engine_fd, int image_turn,
           Options& options, Handoff& handoff, Environment& environment) {
  const std::optional<Helper> helper = SparedHelper(options);
  if (helper && !helper->imports) options.image = false;
  FillHandoff(options, home, &handoff);
  OpenImage image;
  if (const auto done = ChooseImage(options, engine, &handoff, &image)) return *done;
  if (helper && image.fd < 0 && handoff.image.folder.empty()) Spare(*helper, &handoff);
  // Others wait for what this process makes; else the descriptor ends with this program.
  if (image_turn >= 0 && image.fd < 0 && !handoff.image.folder.empty()) {
    fcntl(image_turn, F_SETFD, 0);
    handoff.image_turn = image_turn;
  }
  if (options.build) {  // What follows Python's options are the builder's arguments.
    options.python_argv.insert(
        options.python_argv.begin() + static_cast<std::ptrdiff_t>(options.program), {"-c", ""});
  }
  const int fd = MemoryFile(handoff.Serialize());
  if (fd < 0) {
    return LaunchWithout({absl::StrCat("no memory file: ", std::strerror(errno)), ""}, home,
                         options, environment);
  }
  environment.Prepend("LD_PRELOAD",
                      engine_fd < 0 ? engine : absl::StrCat("/proc/self/fd/", engine_fd));
  if (image.fd >= 0) {
    environment.Set(kHandoffVariable, ForImage(fd, image, home.executable));
    Exec(handoff.LibraryFile(image::kRestorer), options.python_argv, environment);
  }
  if (const image::CpuLevel cpu = handoff.image.cpu; cpu != image::CpuLevel::kOwn) {
    environment.Append(image::kTunablesVariable, image::TunablesFor(cpu));
  }
  environment.Set(kHandoffVariable, ForEngine(fd, engine_fd));
  return Exec(home.executable, options.python_argv, environment);
}

// Comes back in each worker, and where none are wanted; else the exit code of them all.
// `image_turn`: see Role.
std::optional<int> BecomeWorker(const Options& options, int* image_turn) {
  if (!options.workers.wanted() || options.needs_engine() || options.doctor) return std::nullopt;
  const absl::StatusOr<WorkerPlan> workers = PlanWorkers(options.workers);
  if (!workers.ok()) return Fail(workers.status());
  const Role role =
      Supervise({options.workers, options.json, options.explain, options.image}, *workers);
  if (!role.is_worker) return role.exit_code;
  *image_turn = role.image_turn;
  return std::nullopt;
}

int Main(int argc, char** argv) {
  std::vector<std::string> args(argv, argv + argc);
  std::vector<std::string> variables;
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) variables.push_back(*e);
  absl::StatusOr<Options> options = ParseOptions(args, variables);
  if (!options.ok()) return Fail(options.status());
  if (options->help) {
    std::fputs(HelpText().c_str(), stdout);
    return 0;
  }
  if (options->help_workers) {
    std::fputs(WorkersHelpText().c_str(), stdout);
    return 0;
  }
  if (!options->completion.empty()) {
    std::fputs(CompletionScript(options->completion, OwnOptions()).c_str(), stdout);
    return 0;
  }

  Handoff handoff;
  if (absl::Status status = ReadArguments(*options, &handoff); !status.ok()) return Fail(status);
  Obey(handoff.plan.directives, &*options);
  const OwnFiles own = FindOwnFiles(argv[0]);
  handoff.library = own.library;
  handoff.cache_folder = CacheFolder(options->cache, Getenv);
  handoff.cache_named = !options->cache.empty();
  handoff.cache_size = options->cache_size.value_or(cache::kDefaultMaxBytes);
  if (const auto code = RunTool(*options, handoff)) return *code;
  const InitRole role = BecomeInit(options->init, options->explain);
  if (role.exit_code) return *role.exit_code;
  handoff.wait_for_seal = role.ends_everything || Getenv("PYLAUNCH_SEAL") == "wait";

  absl::StatusOr<PythonHome> home = ChoosePython(*options, own, handoff.cache_folder);
  if (!home.ok()) return Fail(home.status());
  if (options->version) return Version(*home);
  if (options->explain) {
    std::fprintf(stderr, "pylaunch: explain: python %s %s (%s)\n", home->executable.c_str(),
                 home->version.c_str(), home->why.c_str());
    if (!handoff.plan.empty() || options->image) {
      std::fprintf(stderr, "pylaunch: explain: settings: %s\n", SettingsInWords(*options).c_str());
    }
  }

  int image_turn = -1;
  if (const auto code = BecomeWorker(*options, &image_turn)) return *code;
  Environment environment(environ);
  environment.Apply(handoff.plan.environment);
  if (options->doctor) return Doctor(*options, *home, own, handoff, environment);
  if (!options->ignore_environment) {  // They are about this process, not about its children.
    environment.Remove("PYLAUNCH_INIT");
    environment.Remove("PYLAUNCH_RECORD");
    environment.Remove("PYLAUNCH_REPORT");
  }
  const std::string engine = handoff.LibraryFile(EngineName(*home));
  Obstacle obstacle = WhyNotEnter(*home, own, engine);
  const int engine_fd = obstacle.cause.empty() ? EngineDescriptor(engine, &obstacle) : -1;
  if (!obstacle.cause.empty()) return LaunchWithout(obstacle, *home, *options, environment);
  ExplainCache(*options, handoff.cache_folder);
  return Launch(*home, engine, engine_fd, image_turn, *options, handoff, environment);
}

}  // namespace
}  // namespace pylaunch

int main(int argc, char** argv) { return pylaunch::Main(argc, argv); }
