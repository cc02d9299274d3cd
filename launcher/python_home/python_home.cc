#include "launcher/python_home/python_home.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "cache/descriptor.h"
#include "launcher/contract/text.h"
#include "nlohmann/json.hpp"

#define XXH_INLINE_ALL
#include "xxhash.h"

// Reading order: Search finds candidates, Inquiry says what one is: from its record, or by Probe,
// which runs it.

namespace pylaunch {
namespace {

using Clock = std::chrono::steady_clock;
using Getenv = std::function<std::string(const char*)>;

constexpr char kProbing[] =
    "PYLAUNCH_PROBING";  // Set in the environment of a candidate that is run.

std::string Folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos || slash == 0 ? "/" : path.substr(0, slash);
}

std::string WorkingDirectory() {
  char buffer[PATH_MAX];
  return getcwd(buffer, sizeof buffer) != nullptr ? buffer : "";
}

// Empty if `path` is relative and the working directory is gone.
std::string Absolute(std::string_view path) {
  if (path.starts_with('/')) return std::string(path);
  const std::string here = WorkingDirectory();
  return here.empty() ? "" : Cat(here, here == "/" ? "" : "/", path);
}

// Tells a file from another one, and from itself after a change.
struct Stamp {
  std::array<int64_t, 4> parts = {};  // Device, inode, size, mtime in nanoseconds.
  bool operator==(const Stamp&) const = default;
  bool SameFile(const Stamp& other) const {
    return parts[0] == other.parts[0] && parts[1] == other.parts[1];
  }
};

struct FileState {
  Stamp stamp;
  mode_t mode = 0;
  bool IsFolder() const { return S_ISDIR(mode); }
  // Whether *we* may run it shows when it is run.
  bool IsProgram() const { return S_ISREG(mode) && (mode & 0111) != 0; }
};

std::optional<FileState> Look(const std::string& path) {
  struct stat state;
  if (path.empty() || stat(path.c_str(), &state) != 0) return std::nullopt;
  constexpr int64_t kSecond = 1'000'000'000;
  return FileState{{{static_cast<int64_t>(state.st_dev), static_cast<int64_t>(state.st_ino),
                     static_cast<int64_t>(state.st_size),
                     state.st_mtim.tv_sec * kSecond + state.st_mtim.tv_nsec}},
                   state.st_mode};
}

// The first `limit` bytes of an open file.
std::optional<std::string> ReadUpTo(int fd, size_t limit) {
  std::string text(limit, '\0');
  size_t size = 0;
  while (size < limit) {
    const ssize_t got = read(fd, text.data() + size, limit - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

std::optional<std::string> ReadStart(const std::string& path, size_t limit) {
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  return file.ok() ? ReadUpTo(file.get(), limit) : std::nullopt;
}

bool IsElf(const std::string& path) {
  return ReadStart(path, 4) ==
         "\x7F"
         "ELF";
}

std::string Digest(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  char hex[33];
  std::snprintf(hex, sizeof hex, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return hex;
}

// ---- Probe ----

// What a candidate says of itself.
struct Answer {
  std::string version, implementation, abi_flags;
  std::vector<std::string> executables;  // Best first; some may be empty.
};

// Runs in Python 2.7 too, imports nothing that the working directory could shadow (only modules
// built into the interpreter), and writes bytes: a path may be in any encoding.
constexpr char kProbeProgram[] = R"(
import sys, posix
try: exe = posix.readlink("/proc/self/exe")
except OSError: exe = ""
f = ["pylaunch-answer", "%d.%d.%d" % sys.version_info[:3],
     sys.implementation.name if hasattr(sys, "implementation") else
     "pypy" if "__pypy__" in sys.builtin_module_names else "cpython",
     getattr(sys, "abiflags", ""), sys.executable or "",
     getattr(sys, "_base_executable", "") or "", exe, "end"]
s = "\0".join(f)
b = s if str is bytes else s.encode(sys.getfilesystemencoding(), "surrogateescape")
getattr(sys.stdout, "buffer", sys.stdout).write(b)
sys.stdout.flush()
)";

std::optional<Answer> ParseAnswer(std::string_view output) {
  // A shim may print before it starts Python.
  const size_t begin = output.find(std::string_view("pylaunch-answer\0", 16));
  if (begin == output.npos) return std::nullopt;
  output.remove_prefix(begin);
  std::vector<std::string> fields;
  for (size_t at = 0; at <= output.size(); at += fields.back().size() + 1) {
    fields.emplace_back(output.substr(at, output.find('\0', at) - at));
  }
  if (fields.size() != 8 || fields[7] != "end") return std::nullopt;
  return Answer{fields[1], fields[2], fields[3], {fields[4], fields[5], fields[6]}};
}

// Runs a candidate once and kills it, and what it started, when it takes too long.
class Probe {
 public:
  Probe(const std::string& program, std::chrono::milliseconds timeout)
      : program_(program), deadline_(Clock::now() + timeout) {}

  // nullopt: see cause(). Isolated, for from 3.13 on CPython itself imports `linecache` for a
  // command, by a sys.path with the working directory in front. Python 2.7 knows no -I and ends
  // with 2; there the program's own care equals it.
  std::optional<Answer> Run() {
    std::optional<Answer> answer = RunWith("-IS");
    if (!answer.has_value() && may_not_know_option_) answer = RunWith("-EsS");
    return answer;
  }

  const std::string& cause() const { return cause_; }

 private:
  std::optional<Answer> RunWith(const char* options) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Fail(std::strerror(errno));
    cache::Descriptor output(ends[0]);
    cache::Descriptor input(ends[1]);
    if (const int error = Spawn(options, input.get()); error != 0) {
      return Fail(Cat("cannot be run: ", std::strerror(error)));
    }
    input.Close();
    std::optional<Answer> answer = Listen(output.get());
    output.Close();  // Who still writes gets SIGPIPE and does not block.
    const std::string ending = WaitForEnd();
    may_not_know_option_ = ending == kExited + "2" || ending == kEnded;
    return answer.has_value() ? answer : Fail(Cat("did not say that it is a Python: ", ending));
  }

  std::nullopt_t Fail(std::string cause) {
    cause_ = std::move(cause);
    return std::nullopt;
  }

  static std::vector<char*> Environment() {
    static char probing[] = "PYLAUNCH_PROBING=1";
    std::vector<char*> environment;
    for (char** setting = environ; setting != nullptr && *setting != nullptr; ++setting) {
      if (!std::string_view(*setting).starts_with("LD_PRELOAD=")) environment.push_back(*setting);
    }
    environment.push_back(probing);
    environment.push_back(nullptr);
    return environment;
  }

  int Spawn(const char* options, int output) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    // First the pipe: where ours came without standard streams, it may be descriptor 0 or 2.
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    const char* arguments[] = {program_.c_str(), options, "-c", kProbeProgram, nullptr};
    const int error = posix_spawn(&pid_, program_.c_str(), &actions, &attributes,
                                  const_cast<char**>(arguments), Environment().data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
  }

  int MillisecondsLeft() const {
    const auto left = deadline_ - Clock::now();
    return static_cast<int>(
        std::max<int64_t>(0, std::chrono::ceil<std::chrono::milliseconds>(left).count()));
  }

  // Until the answer is whole: a daemon that a wrapper started may hold the pipe for ever.
  std::optional<Answer> Listen(int output) const {
    constexpr size_t kMaxOutput = 1 << 16;
    std::string text;
    std::optional<Answer> answer;
    while (!answer.has_value() && text.size() < kMaxOutput) {
      pollfd ready = {output, POLLIN, 0};
      const int polled = poll(&ready, 1, MillisecondsLeft());
      if (polled == 0) break;
      char buffer[4096];
      const ssize_t got = polled < 0 ? -1 : read(output, buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
      answer = ParseAnswer(text);
    }
    return answer;
  }

  // Leaves no child behind; says how it ended.
  std::string WaitForEnd() const {
    constexpr std::chrono::microseconds kLongestNap(10'000);
    int status = 0;
    pid_t ended = 0;
    for (std::chrono::microseconds nap(100);; nap = std::min(nap * 2, kLongestNap)) {
      ended = waitpid(pid_, &status, WNOHANG);
      if (ended != 0 && !(ended < 0 && errno == EINTR)) break;
      if (MillisecondsLeft() == 0) {
        kill(-pid_, SIGKILL);
        while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        return "it took too long";
      }
      std::this_thread::sleep_for(nap);
    }
    if (ended < 0) return kEnded;  // SIGCHLD is ignored: nobody knows how.
    if (WIFSIGNALED(status)) return Cat("killed by signal ", std::to_string(WTERMSIG(status)));
    return Cat(kExited, std::to_string(WEXITSTATUS(status)));
  }

  inline static const std::string kEnded = "it ended", kExited = "exit code ";

  const std::string program_;
  const Clock::time_point deadline_;
  pid_t pid_ = -1;
  bool may_not_know_option_ = false;
  std::string cause_;
};

// ---- Records ----

// One answer of a candidate, as kept.
struct Known {
  std::string inputs;  // Digest of what a shim's answer depends on; empty for a real executable.
  std::string executable;
  Stamp executable_stamp;
  std::string version, implementation;
  bool free_threaded = false;
};

struct Record {
  std::string candidate;
  Stamp candidate_stamp;
  std::vector<Known> answers;  // Newest first.
};

constexpr int kRecordFormat = 1;
constexpr size_t kMaxAnswers = 16;  // One a project for a shim; bounds the record.
constexpr size_t kMaxRecordSize = 1 << 16;

// Paths are escaped because JSON holds only UTF-8.
std::string ToJson(const Record& record) {
  nlohmann::json answers = nlohmann::json::array();
  for (const Known& known : record.answers) {
    answers.push_back({{"inputs", known.inputs},
                       {"executable", absl::CEscape(known.executable)},
                       {"stamp", known.executable_stamp.parts},
                       {"version", known.version},
                       {"implementation", known.implementation},
                       {"free_threaded", known.free_threaded}});
  }
  const nlohmann::json all = {{"format", kRecordFormat},
                              {"candidate", absl::CEscape(record.candidate)},
                              {"stamp", record.candidate_stamp.parts},
                              {"answers", std::move(answers)}};
  return all.dump(1);
}

std::string PathFromJson(const nlohmann::json& value) {
  std::string path;
  return absl::CUnescape(value.get<std::string>(), &path) ? path : "";
}

std::optional<Record> FromJson(std::string_view text) try {
  const nlohmann::json all = nlohmann::json::parse(text.begin(), text.end());
  if (all.at("format") != kRecordFormat) return std::nullopt;
  Record record;
  record.candidate = PathFromJson(all.at("candidate"));
  record.candidate_stamp.parts = all.at("stamp").get<std::array<int64_t, 4>>();
  for (const nlohmann::json& answer : all.at("answers")) {
    Known& known = record.answers.emplace_back();
    known.inputs = answer.at("inputs").get<std::string>();
    known.executable = PathFromJson(answer.at("executable"));
    known.executable_stamp.parts = answer.at("stamp").get<std::array<int64_t, 4>>();
    known.version = answer.at("version").get<std::string>();
    known.implementation = answer.at("implementation").get<std::string>();
    known.free_threaded = answer.at("free_threaded").get<bool>();
  }
  return record;
} catch (const nlohmann::json::exception&) {
  return std::nullopt;
}

// nullopt: none, or none that can be believed.
std::optional<Record> LoadRecord(const std::string& path) {
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat state;
  if (!file.ok() || fstat(file.get(), &state) != 0) return std::nullopt;
  const bool trusted =
      S_ISREG(state.st_mode) && state.st_uid == geteuid() && (state.st_mode & 022) == 0;
  if (!trusted || state.st_size > static_cast<off_t>(kMaxRecordSize)) return std::nullopt;
  const std::optional<std::string> text = ReadUpTo(file.get(), static_cast<size_t>(state.st_size));
  return text.has_value() ? FromJson(*text) : std::nullopt;
}

void MakeFolders(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) == 0 || errno != ENOENT || folder == "/") return;
  MakeFolders(Folder(folder));
  mkdir(folder.c_str(), 0700);
}

// Best effort. Not synced: a record torn by a crash is no record.
void SaveRecord(const std::string& path, const Record& record) {
  MakeFolders(Folder(path));
  std::string temporary = path + ".XXXXXX";
  cache::Descriptor file(mkostemp(temporary.data(), O_CLOEXEC));  // Mode 0600.
  if (!file.ok()) return;
  const std::string text = ToJson(record);
  const bool written = write(file.get(), text.data(), text.size()) == std::ssize(text);
  file.Close();
  if (!written || rename(temporary.c_str(), path.c_str()) != 0) unlink(temporary.c_str());
}

// ---- What a shim's answer depends on ----

class ShimInputs {
 public:
  ShimInputs(const Getenv& getenv, const std::string& shim) : getenv_(getenv), shim_(shim) {}

  std::string Take() {
    for (const char* name : {"PATH", "HOME", "PYENV_VERSION", "PYENV_ROOT", "PYENV_DIR",
                             "ASDF_PYTHON_VERSION", "ASDF_DATA_DIR"}) {
      Add(getenv_(name));
    }
    const std::string here = LogicalWorkingDirectory();
    Add(here);
    AddVersionFilesUpwards(here);
    AddVersionFilesUpwards(getenv_("PYENV_DIR"));
    AddFile(getenv_("HOME") + "/.tool-versions");
    // pyenv's shims know their root themselves, so the environment's need not be it.
    for (const std::string& root :
         {getenv_("PYENV_ROOT"), getenv_("HOME") + "/.pyenv", Folder(Folder(shim_))}) {
      AddFile(root + "/version");
      AddStamp(root + "/versions");  // A new one can be what "3.12" stands for.
    }
    return Digest(all_);
  }

 private:
  void Add(std::string_view value) {
    all_ += std::to_string(value.size());
    all_ += ':';
    all_ += value;
  }

  // The contents, not a stamp: "3.11.7" and "3.12.1" have one size, and clocks are coarse.
  void AddFile(const std::string& path) {
    constexpr size_t kEnough = 4096;
    const std::optional<std::string> text = ReadStart(path, kEnough);
    all_ += text.has_value() ? '+' : '-';
    Add(text.value_or(""));
  }

  void AddStamp(const std::string& path) {
    const std::optional<FileState> file = Look(path);
    for (int64_t part : file.value_or(FileState()).stamp.parts) Add(std::to_string(part));
  }

  void AddVersionFilesUpwards(std::string folder) {
    if (!folder.starts_with('/')) return;
    for (;; folder = Folder(folder)) {
      const std::string prefix = folder == "/" ? folder : folder + "/";
      AddFile(prefix + ".python-version");
      AddFile(prefix + ".tool-versions");
      if (folder == "/") return;
    }
  }

  // What a shell calls $PWD: shims look upwards from there, not from where symlinks lead.
  std::string LogicalWorkingDirectory() const {
    const std::string logical = getenv_("PWD");
    const std::optional<FileState> named = logical.starts_with('/') ? Look(logical) : std::nullopt;
    const std::optional<FileState> real = named.has_value() ? Look(".") : std::nullopt;
    return real.has_value() && real->stamp.SameFile(named->stamp) ? logical : WorkingDirectory();
  }

  const Getenv& getenv_;
  const std::string& shim_;
  std::string all_;
};

// ---- Inquiry ----

// What one candidate is.
class Inquiry {
 public:
  Inquiry(const HomeQuery& query, const std::optional<FileState>& self,
          const std::string& candidate, const Stamp& stamp)
      : query_(query), self_(self), candidate_(candidate), stamp_(stamp) {
    if (!query.cache_folder.empty()) {
      record_path_ = Cat(query.cache_folder, "/pythons/", Digest(candidate), ".json");
    }
  }

  // False: see cause().
  bool Identify(PythonHome* home) {
    if (!query_.exact_version && TellByName(home)) return true;
    if (!record_path_.empty()) record_ = LoadRecord(record_path_).value_or(Record());
    if (record_.candidate == candidate_ && record_.candidate_stamp == stamp_) {
      for (const Known& known : record_.answers) {
        if (Holds(known)) return Fill(known, home);
      }
    } else {
      record_ = {candidate_, stamp_, {}};
    }
    Known known;
    return Ask(&known) && Fill(known, home);
  }

  const std::string& cause() const { return cause_; }

 private:
  // CPython installs its executable as "python3.11" and all else as links to it; other
  // implementations and free-threaded builds ("python3.13t") have other names. The engine makes
  // sure again, so nothing needs to be run to ask, and no record to be read.
  bool TellByName(PythonHome* home) const {
    char path[PATH_MAX];
    if (realpath(candidate_.c_str(), path) == nullptr || !IsElf(path)) return false;
    const std::string base(std::strrchr(path, '/') + 1);
    int end = 0;
    int minor = 0;
    if (std::sscanf(base.c_str(), "python3.%d%n", &minor, &end) != 1 ||
        end != static_cast<int>(base.size())) {
      return false;
    }
    home->candidate = home->executable = candidate_;
    home->major = 3;
    home->minor = minor;
    home->version = Cat("3.", std::to_string(minor));
    home->implementation = "cpython";
    return true;
  }

  bool Holds(const Known& known) {
    if (!known.inputs.empty() && known.inputs != Inputs()) return false;
    if (known.executable == candidate_) return known.executable_stamp == stamp_;
    const std::optional<FileState> now = Look(known.executable);
    return now.has_value() && now->stamp == known.executable_stamp && !IsSelf(*now);
  }

  bool IsSelf(const FileState& file) const {
    return self_.has_value() && self_->stamp.SameFile(file.stamp);
  }

  const std::string& Inputs() {
    if (inputs_.empty()) inputs_ = ShimInputs(query_.getenv, candidate_).Take();
    return inputs_;
  }

  bool Ask(Known* known) {
    Inputs();  // Before the candidate reads them: a change meanwhile must make the answer stale.
    Probe probe(candidate_, query_.probe_timeout);
    const std::optional<Answer> answer = probe.Run();
    if (!answer.has_value()) {
      cause_ = probe.cause();
      return false;
    }
    known->version = answer->version;
    known->implementation = answer->implementation;
    known->free_threaded = answer->abi_flags.find('t') != std::string::npos;
    if (!ChooseExecutable(*answer, known)) {
      cause_ = "names no executable file that runs it";
      return false;
    }
    if (!record_path_.empty()) Remember(*known);
    return true;
  }

  bool ChooseExecutable(const Answer& answer, Known* known) {
    for (const std::string& path : answer.executables) {
      const std::optional<FileState> file = path.starts_with('/') ? Look(path) : std::nullopt;
      if (!file.has_value() || !file->IsProgram() || IsSelf(*file) || !IsElf(path)) continue;
      const bool itself = file->stamp.SameFile(stamp_);
      known->executable = itself ? candidate_ : path;
      known->executable_stamp = file->stamp;
      known->inputs = itself ? "" : Inputs();
      return true;
    }
    return false;
  }

  void Remember(const Known& known) {
    std::vector<Known>& answers = record_.answers;
    std::erase_if(answers, [&](const Known& old) { return old.inputs == known.inputs; });
    answers.insert(answers.begin(), known);
    if (answers.size() > kMaxAnswers) answers.resize(kMaxAnswers);
    SaveRecord(record_path_, record_);
  }

  bool Fill(const Known& known, PythonHome* home) const {
    home->candidate = candidate_;
    home->executable = known.executable;
    home->version = known.version;
    home->implementation = known.implementation;
    home->free_threaded = known.free_threaded;
    return std::sscanf(known.version.c_str(), "%d.%d", &home->major, &home->minor) == 2;
  }

  const HomeQuery& query_;
  const std::optional<FileState>& self_;
  const std::string& candidate_;
  const Stamp stamp_;
  std::string record_path_;
  Record record_;
  std::string inputs_;
  std::string cause_;
};

// ---- Search ----

class Search {
 public:
  explicit Search(const HomeQuery& query) : query_(query), self_(Look(query.self)) {}

  absl::StatusOr<PythonHome> Run() {
    if (!query_.requested.empty()) return Requested();
    if (BesidePylaunch() || Environment("VIRTUAL_ENV") || Environment("CONDA_PREFIX") ||
        OnPath("python3", "PATH") || OnPath("python", "PATH")) {
      return Found();
    }
    return absl::NotFoundError(
        Cat("no Python found", Tried(), "\n  hint:  name one: --python=PATH, or PYLAUNCH_PYTHON"));
  }

 private:
  absl::StatusOr<PythonHome> Requested() {
    const std::string& requested = query_.requested;
    const char* why = "--python or PYLAUNCH_PYTHON";
    const bool by_name = requested.find('/') == requested.npos;
    if (by_name && OnPath(requested, why)) return Found();
    const std::string path = Absolute(requested);
    const std::optional<FileState> file = Look(path);
    const bool folder = file.has_value() && file->IsFolder();
    if (folder ? InPrefix(path, why) : !by_name && Try(path, file, why)) return Found();
    return absl::InvalidArgumentError(
        Cat("the requested Python '", requested, "' cannot be used", Tried(),
            "\n  hint:  --python takes an executable, a name on PATH or an environment's folder"));
  }

  bool BesidePylaunch() {
    if (!query_.self.starts_with('/')) return false;
    const std::string folder = Folder(query_.self), above = Folder(folder);
    if (Look(folder + "/pyvenv.cfg").has_value() &&
        InPrefix(folder, "pyvenv.cfg beside pylaunch")) {
      return true;
    }
    return Look(above + "/pyvenv.cfg").has_value() && InPrefix(above, "pyvenv.cfg above pylaunch");
  }

  bool Environment(const char* variable) {
    const std::string prefix = Absolute(query_.getenv(variable));
    return !query_.getenv(variable).empty() && InPrefix(prefix, variable);
  }

  // Not every installation has "python"; an environment has both.
  bool InPrefix(const std::string& prefix, const char* why) {
    const std::string python = prefix + "/bin/python";
    const std::optional<FileState> file = Look(python);
    if (file.has_value()) return Try(python, file, why);
    return Try(python + "3", Look(python + "3"), why);
  }

  bool OnPath(const std::string& name, const char* why) {
    std::string path = query_.getenv("PATH");
    if (path.empty()) {  // As execvp does.
      path.resize(confstr(_CS_PATH, nullptr, 0));
      path.resize(confstr(_CS_PATH, path.data(), path.size()) - 1);
    }
    for (size_t begin = 0; begin <= path.size();) {
      const size_t end = std::min(path.find(':', begin), path.size());
      const std::string folder = Absolute(path.substr(begin, end - begin));  // Empty: "here".
      begin = end + 1;
      const std::string file = Cat(folder, folder.ends_with('/') ? "" : "/", name);
      const std::optional<FileState> state = Look(file);
      if (state.has_value() && Try(file, state, why)) return true;
    }
    tried_.push_back(Cat("no '", name, "' on PATH"));
    return false;
  }

  bool Try(const std::string& candidate, const std::optional<FileState>& file, const char* why) {
    std::string cause;
    if (!file.has_value()) {
      cause = "no such file";
    } else if (!file->IsProgram()) {
      cause = "not an executable file";
    } else if (self_.has_value() && self_->stamp.SameFile(file->stamp)) {
      cause = "pylaunch itself";
    } else {
      Inquiry inquiry(query_, self_, candidate, file->stamp);
      home_.why = why;
      if (inquiry.Identify(&home_)) return true;
      cause = inquiry.cause();
    }
    tried_.push_back(Cat(why, ": ", candidate, ": ", cause));
    return false;
  }

  PythonHome Found() {
    for (const std::string& tried : tried_) home_.why += Cat("; before it: ", tried);
    return std::move(home_);
  }

  std::string Tried() const {
    std::string text;
    for (const std::string& tried : tried_) text += Cat("\n  tried: ", tried);
    return text;
  }

  const HomeQuery& query_;
  const std::optional<FileState> self_;
  std::vector<std::string> tried_;
  PythonHome home_;
};

constexpr std::pair<const char*, std::string_view> kCacheParents[] = {
    {"XDG_CACHE_HOME", "/pylaunch"}, {"HOME", "/.cache/pylaunch"}};

// Only slashes: nothing is left.
std::string WithoutLastSlashes(std::string path) {
  path.resize(path.find_last_not_of('/') + 1);
  return path;
}

}  // namespace

absl::StatusOr<PythonHome> FindPython(const HomeQuery& query) {
  if (!query.getenv(kProbing).empty()) {
    return absl::FailedPreconditionError(
        "started by a program that pylaunch was asking whether it is a Python\n"
        "  cause: a 'python' on PATH, or of an environment, is a script that starts pylaunch\n"
        "  hint:  name the real one: --python=PATH, or PYLAUNCH_PYTHON");
  }
  return Search(query).Run();
}

std::string CacheFolder(std::string_view flag, const Getenv& getenv) {
  if (!flag.empty()) {
    const std::string folder = WithoutLastSlashes(Absolute(flag));
    return folder.empty() ? "/" : folder;
  }
  for (const auto& [variable, below] : kCacheParents) {
    const std::string parent = getenv(variable);
    if (parent.starts_with('/')) return Cat(WithoutLastSlashes(parent), below);
  }
  return "";
}

std::string WhyNoCacheFolder(const Getenv& getenv) {
  std::string why = "neither --cache nor PYLAUNCH_CACHE names a folder";
  for (const auto& [variable, below] : kCacheParents) {
    const std::string parent = getenv(variable);
    why += Cat("; ", variable,
               parent.empty() ? " is not set" : Cat(" is no absolute path: '", parent, "'"));
  }
  return why;
}

}  // namespace pylaunch
