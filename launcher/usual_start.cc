// The start that nearly all are, before and without the C library: no option and no variable of
// ours but those that name the cache folder and the Python, an environment or PATH that leads
// straight to a CPython. glibc's own start-up takes 0.5 ms, twice what is left to do; a start of
// python takes 10 (docs/performance.md). As process 1, too: its child is the program, and it stays
// as the init (launcher/init/init.h), which never has a C library then.
//
// Everything here is what Main (main.cc) would do. Wherever it is not plain what that is, this
// gives up, the C library starts, and Main does it: an unusual start, not an error. Nothing that
// happened before leaves a trace.
//
// No function of the C library may be called, not even memcpy: which one the processor has is
// chosen by relocations (IRELATIVE) that are not applied yet; nor may anything use thread-local
// storage. See CMakeLists.txt for the options that keep the compiler from it.

#include <asm/unistd.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/system_call.h"
#include "launcher/contract/handoff.h"
#include "launcher/contract/program_loader.h"
#include "launcher/contract/python_options.h"
#include "launcher/init/init_process.h"

namespace pylaunch {
namespace {

bool StartsWith(const char* text, const char* prefix) {
  for (; *prefix != '\0'; ++text, ++prefix) {
    if (*text != *prefix) return false;
  }
  return true;
}

bool Contains(const char* text, char wanted) {
  for (; *text != '\0'; ++text) {
    if (*text == wanted) return true;
  }
  return false;
}

// A string of bounded size. What does not fit makes it bad for good; a bad one is empty.
class Text {
 public:
  Text() { Cut(0); }  // The rest is not touched: it is a page of the stack.
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;

  Text& Add(const char* text) {
    for (; *text != '\0'; ++text) Add(*text);
    return *this;
  }
  Text& Add(char c) {
    if (size_ + 1 == sizeof bytes_) good_ = false;
    if (good_) bytes_[size_++] = c;
    Cut(good_ ? size_ : 0);
    return *this;
  }
  Text& Add(uint64_t number) {
    if (number >= 10) Add(number / 10);
    return Add(static_cast<char>('0' + number % 10));
  }
  void Cut(size_t size) { bytes_[size_ = size] = '\0'; }
  void CutLastSlashes() {
    while (size_ > 0 && bytes_[size_ - 1] == '/') Cut(size_ - 1);
  }
  // Cuts at the last slash. False: there is none but the first character, if that.
  bool ToFolder() {
    size_t slash = size_;
    while (slash > 0 && bytes_[slash] != '/') --slash;
    if (slash > 0) Cut(slash);
    return slash > 0;
  }
  const char* AfterLastSlash() const {
    size_t start = size_;
    while (start > 0 && bytes_[start - 1] != '/') --start;
    return bytes_ + start;
  }
  bool good() const { return good_; }
  size_t size() const { return size_; }
  const char* get() const { return bytes_; }
  char* get() { return bytes_; }

 private:
  char bytes_[PATH_MAX];
  size_t size_ = 0;
  bool good_ = true;
};

bool Stat(const char* path, struct stat* state) {
  return SystemCall(__NR_stat, Address(path), Address(state)) == 0;
}

bool Exists(const char* path) {
  struct stat state;
  return Stat(path, &state);
}

bool IsReadable(const char* path) { return SystemCall(__NR_access, Address(path), R_OK) == 0; }

bool ReadLink(const char* path, Text* to) {
  char target[PATH_MAX];
  const long size = SystemCall(__NR_readlink, Address(path), Address(target), sizeof target - 1);
  if (size <= 0) return false;
  target[size] = '\0';
  to->Cut(0);
  to->Add(target);
  return to->good();
}

// What the kernel has put on the stack (arch/x86, ABI 3.4.1).
struct Process {
  char** argv;
  char** environment;
  size_t variables;
  const char* file;  // AT_EXECFN: as execve(2) was told.
};

Process ReadProcess(uint64_t* stack) {
  Process process = {};
  process.argv = reinterpret_cast<char**>(stack + 1);
  process.environment = process.argv + stack[0] + 1;
  while (process.environment[process.variables] != nullptr) ++process.variables;
  auto* auxv = reinterpret_cast<Elf64_auxv_t*>(process.environment + process.variables + 1);
  for (; auxv->a_type != AT_NULL; ++auxv) {
    if (auxv->a_type == AT_EXECFN) process.file = reinterpret_cast<const char*>(auxv->a_un.a_val);
  }
  return process;
}

// A command line's words, which may begin with an option of ours: --python PATH or --python=PATH.
struct Command {
  char** last_own;     // The last word that Python is not to have, or argv[0].
  const char* python;  // Null: not named.
};

Command ReadCommand(char** argv) {
  if (argv[0] == nullptr || argv[1] == nullptr || !StartsWith(argv[1], "--python")) {
    return {argv, nullptr};
  }
  const char* rest = argv[1] + sizeof "--python" - 1;
  if (*rest == '=') return {argv + 1, rest + 1};
  const bool has_value = *rest == '\0' && argv[2] != nullptr;
  return has_value ? Command{argv + 2, argv[2]} : Command{argv, nullptr};
}

// True if every word after `before` up to the program is a plain one of Python's (CommandLine in
// command_words.cc).
bool IsUsualCommand(char** before) {
  if (before[0] == nullptr) return false;
  for (char** word = before + 1; *word != nullptr; ++word) {
    const char* letter = *word;
    if (letter[0] != '-' || letter[1] == '\0') return true;
    for (++letter; *letter != '\0'; ++letter) {
      const PythonOption kind = KindOfPythonOption(*letter);
      if (kind == PythonOption::kTakesProgram) return true;
      if (kind == PythonOption::kTakesValue) {
        if (letter[1] == '\0' && *++word == nullptr) return true;
        break;
      }
      if (kind != PythonOption::kSwitch) return false;
    }
  }
  return true;
}

// The first of each name counts (getenv(3)); empty is as good as unset.
struct Variables {
  const char* cache = nullptr;
  const char* python = nullptr;
  const char* xdg_cache = nullptr;
  const char* home = nullptr;
  const char* virtual_env = nullptr;
  const char* conda_prefix = nullptr;
  const char* path = nullptr;
  char** preload = nullptr;
  bool usual = true;
};

void Take(const char* setting, const char* name, const char** value) {
  if (*value != nullptr || !StartsWith(setting, name)) return;
  while (*setting++ != '=') {
  }
  *value = setting;
}

Variables ReadVariables(char** environment) {
  Variables found;
  for (; *environment != nullptr; ++environment) {
    const char* setting = *environment;
    Take(setting, "PYLAUNCH_CACHE=", &found.cache);
    Take(setting, "PYLAUNCH_PYTHON=", &found.python);
    Take(setting, "XDG_CACHE_HOME=", &found.xdg_cache);
    Take(setting, "HOME=", &found.home);
    Take(setting, "VIRTUAL_ENV=", &found.virtual_env);
    Take(setting, "CONDA_PREFIX=", &found.conda_prefix);
    Take(setting, "PATH=", &found.path);
    if (found.preload == nullptr && StartsWith(setting, "LD_PRELOAD=")) found.preload = environment;
    if (StartsWith(setting, "PYLAUNCH_") && !StartsWith(setting, "PYLAUNCH_CACHE=/") &&
        !StartsWith(setting, "PYLAUNCH_PYTHON=/")) {
      found.usual = false;
    }
  }
  return found;
}

bool IsSet(const char* value) { return value != nullptr && *value != '\0'; }

// Where FindPython (python_home.cc) looks first, and how it tells what a file is by its name.
class Search {
 public:
  // `requested`: the Python named; null: none.
  Search(const Text& self, const Variables& variables, const char* requested)
      : self_(self), variables_(variables), requested_(requested) {}

  // False: nothing, or nothing that is plainly a CPython.
  bool Run() { return Choose() && python_.good() && IsOtherProgram() && IsNamedAfterVersion(); }
  const Text& python() const { return python_; }
  uint64_t minor() const { return minor_; }

 private:
  bool Choose() {
    if (requested_ != nullptr) return Requested();
    Text folder;
    folder.Add(self_.get());
    if (!folder.ToFolder()) return false;
    const size_t size = folder.size();
    folder.Add("/pyvenv.cfg");
    if (Exists(folder.get())) return false;
    folder.Cut(size);
    if (!folder.ToFolder()) return false;
    const size_t above = folder.size();
    folder.Add("/pyvenv.cfg");
    if (Exists(folder.get())) {
      folder.Cut(above);
      return InPrefix(folder.get());
    }
    if (IsSet(variables_.virtual_env)) return InPrefix(variables_.virtual_env);
    if (IsSet(variables_.conda_prefix)) return InPrefix(variables_.conda_prefix);
    return IsSet(variables_.path) && OnPath(variables_.path);
  }

  // An absolute path of a file or of an environment's folder.
  bool Requested() {
    struct stat state;
    if (requested_[0] != '/' || !Stat(requested_, &state)) return false;
    if (S_ISDIR(state.st_mode)) return InPrefix(requested_);
    python_.Add(requested_);
    return true;
  }

  bool InPrefix(const char* prefix) {
    python_.Add(prefix).Add("/bin/python");
    return prefix[0] == '/' && Exists(python_.get());
  }

  bool OnPath(const char* path) {
    while (*path == '/') {  // A relative folder is not plain.
      python_.Cut(0);
      for (; *path != '\0' && *path != ':'; ++path) python_.Add(*path);
      if (python_.good() && python_.get()[python_.size() - 1] != '/') python_.Add('/');
      python_.Add("python3");
      if (!python_.good()) return false;
      if (Exists(python_.get())) return true;
      if (*path == ':') ++path;
    }
    return false;
  }

  bool IsOtherProgram() const {
    struct stat self;
    struct stat python;
    if (!Stat(self_.get(), &self) || !Stat(python_.get(), &python)) return false;
    const bool same = self.st_dev == python.st_dev && self.st_ino == python.st_ino;
    return S_ISREG(python.st_mode) && (python.st_mode & 0111) != 0 && !same;
  }

  // An ELF file called "python3.<minor>", symbolic links resolved, that is not musl's.
  bool IsNamedAfterVersion() {
    const long fd =
        SystemCall(__NR_open, Address(python_.get()), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    alignas(Elf64_Ehdr) char start[kProgramStart];
    const long got = SystemCall(__NR_read, static_cast<uint64_t>(fd), Address(start), sizeof start);
    const size_t size = got < 0 ? 0 : static_cast<size_t>(got);
    Text link;
    link.Add("/proc/self/fd/").Add(static_cast<uint64_t>(fd));
    Text file;
    const bool resolved = ReadLink(link.get(), &file);
    SystemCall(__NR_close, static_cast<uint64_t>(fd));
    const char* loader = ProgramLoader(start, size);
    const bool enters = IsElf(start, size) && (loader == nullptr || !IsMuslLoader(loader));
    return resolved && enters && ReadMinor(file.AfterLastSlash());
  }

  bool ReadMinor(const char* name) {
    if (!StartsWith(name, "python3.")) return false;
    name += sizeof "python3." - 1;
    if (*name == '\0' || name[0] == '0') return false;
    for (; *name != '\0'; ++name) {
      if (*name < '0' || *name > '9' || minor_ > 9) return false;
      minor_ = minor_ * 10 + static_cast<uint64_t>(*name - '0');
    }
    return true;
  }

  const Text& self_;
  const Variables& variables_;
  const char* const requested_;
  Text python_;
  uint64_t minor_ = 0;
};

// The folder of engine and sealer (own_files.cc).
bool FindLibrary(const Text& self, Text* library) {
  library->Add(self.get());
  if (!library->ToFolder()) return false;
  const size_t size = library->size();
  const bool built = IsReadable(library->Add("/").Add(kSealerFile).get());
  library->Cut(size);
  if (!built) library->Add("/").Add(kInstalledLibrary);
  return library->good();
}

// CacheFolder in python_home.cc. Empty: there is none.
void FindCache(const Variables& variables, Text* cache) {
  if (IsSet(variables.cache)) {
    cache->Add(variables.cache).CutLastSlashes();
    if (cache->size() == 0) cache->Add('/');
  } else if (variables.xdg_cache != nullptr && variables.xdg_cache[0] == '/') {
    cache->Add(variables.xdg_cache).CutLastSlashes();
    cache->Add("/pylaunch");
  } else if (variables.home != nullptr && variables.home[0] == '/') {
    cache->Add(variables.home).CutLastSlashes();
    cache->Add("/.cache/pylaunch");
  }
}

// StartedBesidePth in main.cc.
bool IsBesidePth(const Process& process, uint64_t minor) {
  if (minor < 11) return false;
  Text file;
  file.Add(Contains(process.argv[0], '/') || process.file == nullptr ? process.argv[0]
                                                                     : process.file);
  return !file.good() || IsReadable(file.Add("._pth").get());
}

bool CanHandOn(const Text& path) { return path.good() && !Contains(path.get(), kUsualSeparator); }

// What is to be executed.
struct Program {
  char** argv;
  char** environment;  // Has `handoff` among its variables.
  const char* python;
  const char* library;
  const char* cache;
  Text* handoff;  // Empty yet.

  // Returns if it is not possible.
  void Execute(bool under_init) const {
    handoff->Add(kHandoffVariable).Add('=');
    PutUsualHandoff(SystemCall(__NR_getpid), under_init, python, library, cache,
                    [this](char c) { handoff->Add(c); });
    if (!handoff->good()) return;
    SystemCall(__NR_execve, Address(python), Address(argv), Address(environment));
  }
};

// A child of process 1 that has its memory, and stops it, until it executes something.
struct Child {
  const Program& program;
  const InitProcess& init;
  bool failed = false;

  static void Run(Child* child) {
    child->init.BecomeProgram();
    child->program.Execute(/*under_init=*/true);
    child->failed = true;
    SystemCall(__NR_exit_group, 0);
  }
};

// Its number, or -errno. `stack`: the end of the child's own, aligned as the ABI wants it.
long Start(Child* child, char* stack) {
  long result;
  register uint64_t r10 asm("r10") = 0;
  register uint64_t r8 asm("r8") = 0;
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %[child], %%rdi\n\t"
      "call *%[run]\n\t"
      "ud2\n"
      "1:"
      : "=a"(result)
      : "a"(__NR_clone), "D"(uint64_t{CLONE_VM | CLONE_VFORK | SIGCHLD}), "S"(stack), "d"(0),
        "r"(r10), "r"(r8), [child] "r"(child), [run] "r"(&Child::Run)
      : "rcx", "r11", "memory");
  return result;
}

// Returns if the program cannot be executed, as if nothing had happened.
void ExecuteUnderInit(const Program& program) {
  constexpr size_t kStack = 16384;
  alignas(16) char stack[kStack];
  InitProcess init;
  Child child = {program, init};
  const long number = Start(&child, stack + kStack);
  if (number > 0 && !child.failed) {
    SystemCall(__NR_exit_group, static_cast<uint64_t>(init.Run(number)));
  }
  if (number > 0) SystemCall(__NR_wait4, static_cast<uint64_t>(number));
  init.Undo();
}

// Returns where this is not the usual start.
void TryUsualStart(const Process& process) {
  constexpr size_t kMaxVariables = 1000;
  const Command command = ReadCommand(process.argv);
  if (process.variables > kMaxVariables || !IsUsualCommand(command.last_own)) return;
  const Variables variables = ReadVariables(process.environment);
  Text self;
  if (!variables.usual || !ReadLink("/proc/self/exe", &self)) return;
  Search search(self, variables, command.python != nullptr ? command.python : variables.python);
  if (!search.Run() || IsBesidePth(process, search.minor())) return;

  Text library;
  if (!FindLibrary(self, &library)) return;
  Text engine;
  engine.Add(library.get()).Add("/").Add(kEnginePrefix).Add("3.").Add(search.minor()).Add(".so");
  const bool preloadable = !Contains(engine.get(), ':') && !Contains(engine.get(), ' ');
  if (!preloadable || !IsReadable(engine.get())) return;
  Text cache;
  FindCache(variables, &cache);

  if (!CanHandOn(search.python()) || !CanHandOn(library) || !CanHandOn(cache)) return;
  Text preload;
  preload.Add("LD_PRELOAD=").Add(engine.get());
  if (variables.preload != nullptr) {
    preload.Add(':').Add(*variables.preload + sizeof "LD_PRELOAD=" - 1);
  }
  if (!preload.good()) return;

  Text handoff;
  char* environment[kMaxVariables + 3];
  size_t size = 0;
  for (char** setting = process.environment; *setting != nullptr; ++setting) {
    environment[size++] = setting == variables.preload ? preload.get() : *setting;
  }
  if (variables.preload == nullptr) environment[size++] = preload.get();
  environment[size++] = handoff.get();
  environment[size] = nullptr;
  char* const last_own = *command.last_own;
  *command.last_own = process.argv[0];
  const Program program = {command.last_own, environment, search.python().get(),
                           library.get(),    cache.get(), &handoff};
  if (SystemCall(__NR_getpid) == 1) {
    ExecuteUnderInit(program);
  } else {
    program.Execute(/*under_init=*/false);
  }
  *command.last_own = last_own;
}

}  // namespace
}  // namespace pylaunch

// Called on the stack as the kernel left it.
extern "C" void PylaunchTryUsualStart(uint64_t* stack) {
  pylaunch::TryUsualStart(pylaunch::ReadProcess(stack));
}

// The executable's entry point. _start, the C library's, wants stack and %rdx as they were.
asm(R"(
.pushsection .text.pylaunch_start, "ax", @progbits
.globl pylaunch_start
.type pylaunch_start, @function
pylaunch_start:
  xor %ebp, %ebp
  mov %rsp, %rdi
  push %rdx
  sub $8, %rsp
  call PylaunchTryUsualStart
  add $8, %rsp
  pop %rdx
  jmp _start
.size pylaunch_start, . - pylaunch_start
.popsection
)");
