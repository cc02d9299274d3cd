// The engine: a shared object that the front end has the dynamic loader put into the real python
// executable. It takes the place of that executable's main() and does what Modules/main.c does,
// with ours in between. Reading order: this file, interpreter, finder, code_source,
// archive_session, preloader.

#include <Python.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "image/own_stack.h"
#include "launcher/engine/archive/archive_session.h"
#include "launcher/engine/archive/builder.h"
#include "launcher/engine/archive/finder.h"
#include "launcher/engine/archive/pure_functions.h"
#include "launcher/engine/archive/transfer.h"
#include "launcher/engine/base/clock.h"
#include "launcher/engine/base/progress.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"
#include "launcher/engine/environment/environment_watch.h"
#include "launcher/engine/exit/exit.h"
#include "launcher/engine/imaging/image_builder.h"
#include "launcher/engine/imaging/processor_mask.h"
#include "launcher/engine/imaging/trial_pages.h"
#include "launcher/engine/journal/journal.h"
#include "launcher/engine/journal/journal_report.h"
#include "launcher/engine/libc/libc_calls.h"
#include "launcher/engine/preload/preloader.h"
#include "launcher/engine/record/argument_reads.h"
#include "launcher/engine/record/clock_reads.h"
#include "launcher/engine/record/entry_watch.h"
#include "launcher/engine/record/file_record.h"
#include "launcher/engine/record/output_record.h"
#include "launcher/engine/record/random_draws.h"
#include "launcher/engine/record/signal_reads.h"
#include "launcher/engine/record/variable_record.h"
#include "launcher/engine/shield/import_shield.h"
#include "launcher/engine/start/arena_memory.h"
#include "launcher/engine/start/interpreter.h"
#include "launcher/engine/start/memory_ahead.h"
#include "launcher/engine/start/takeover.h"

extern "C" const PyConfig* _Py_GetConfig(void);

namespace pylaunch::engine {
namespace {

using MainFunction = int (*)(int, char**, char**);
using StartMain = int (*)(MainFunction, int, char**, void (*)(), void (*)(), void (*)(), void*);

// What outlives the interpreter: code of ours runs until the very end of the process, and CPython
// calls it with nothing of ours.
constinit struct {
  Handoff* handoff = nullptr;
  ArchiveSession* session = nullptr;
  bool session_was_open = false;  // When an image was captured.
  bool session_ended = false;
  int64_t started_ns = 0;
  int argc = 0;  // Of the function that runs on a stack of its own.
  char** argv = nullptr;
} g;

std::string SysString(const char* name) {
  std::string text;
  FileSystemBytes(PySys_GetObject(name), &text);
  return text;
}

// The environment that `site` will make sys.prefix of: the one whose pyvenv.cfg lies beside or
// above the executable (PEP 405). Needed before `site` has run.
std::string VirtualEnvironment() {
  std::string folder = g.handoff->python.substr(0, g.handoff->python.rfind('/'));
  std::string above = folder.substr(0, folder.rfind('/'));
  if (access((folder + "/pyvenv.cfg").c_str(), R_OK) == 0) return folder;
  return access((above + "/pyvenv.cfg").c_str(), R_OK) == 0 ? above : "";
}

// What installs programs or makes environments writes sys.executable into them ("#!" lines,
// pyvenv.cfg); there it must name the Python that stays when pylaunch is removed. And a debugger
// follows only those children that are called something with "python" (pydev_monkey.is_python).
bool NeedsStocksExecutable(const Program& program) {
  std::string_view name = program.module;
  if (name.empty()) {
    name = program.filename;
    name.remove_prefix(name.rfind('/') + 1);  // 0 where there is none.
    if (name == "setup.py") return true;
    name = name.substr(0, name.find_last_not_of("0123456789.") + 1);  // pip3.11
  }
  for (std::string_view it :
       {"debugpy", "ensurepip", "installer", "pip", "pydevd", "venv", "virtualenv"}) {
    if (name.substr(0, name.find('.')) == it) return true;
  }
  return false;
}

// sys.executable is <prefix>/bin/pylaunch where that is installed in a virtual environment: started
// with nothing in its environment, it finds the same prefix by the pyvenv.cfg above it. CPython has
// already found its own files by its own executable.
void SetExecutable() {
  std::string prefix = VirtualEnvironment();
  std::string ours = prefix + "/bin/pylaunch";
  if (prefix.empty() || access(ours.c_str(), X_OK) != 0) return;
  PyRef executable = PyRef::Steal(PyUnicode_DecodeFSDefault(ours.c_str()));
  if (!executable || PySys_SetObject("executable", executable.get()) < 0) return;
  // Sub-interpreters start from the configuration, which no public call can change this late.
  PyConfig* config = const_cast<PyConfig*>(_Py_GetConfig());
  PyConfig_SetBytesString(config, &config->executable, ours.c_str());
}

std::vector<std::string> ModuleSuffixes() {
  std::vector<std::string> suffixes = {".py", ".pyc", ".so"};
  return suffixes;
}

cache::BuildKey Key(const Program& program) {
  cache::BuildKey key;
  key.python = Py_GetVersion();
#if PY_VERSION_HEX >= 0x030B0000
  // Code compiled without positions would lose another process its tracebacks' carets.
  if (_Py_GetConfig()->code_debug_ranges == 0) key.python += " no_debug_ranges";
#endif
  key.environment = VirtualEnvironment();
  if (key.environment.empty()) key.environment = SysString("prefix");
  key.magic = static_cast<uint32_t>(PyImport_GetMagicNumber());
  key.optimize = program.optimize;
  return key;
}

// -v prints what importlib itself looks at: then importlib itself shall look.
void SetUpArchive(const Program& program) {
  if (g.handoff->cache_folder.empty() || program.verbose) return;
  g.session->Open(*g.handoff, Key(program), ModuleSuffixes());
  if (!InstallFinder(g.session, program.optimize)) {
    PyErr_Clear();
    if (g.handoff->explain)
      Explain("archive: not used, this CPython's importlib is not the one we know");
  }
  if (!InstallPureFunctions(g.session, g.handoff->explain)) PyErr_Clear();
}

void OnPath(const Program& program) {
  if (!g.handoff->image.folder.empty()) StartReadRecord();
  if (!NeedsStocksExecutable(program)) SetExecutable();
  SetUpJournal(*g.handoff, program, g.started_ns);
  if (!InstallImportShield(g.handoff->explain)) PyErr_Clear();
  SetUpArchive(program);
  PyErr_Clear();
  if (!g.handoff->image.folder.empty()) FollowImportOfOs();
}

// The program has ended and runs no more Python. Called at the end of Py_FinalizeEx too, because
// Py_RunMain does not return from sys.exit() or Ctrl-C (Python/pythonrun.c, handle_system_exit;
// Modules/main.c, exit_sigint).
void EndSession() {
  if (std::exchange(g.session_ended, true)) return;
  g.session->Seal(/*ending=*/true);
  g.session->ReportCounts();
}

int BuildArchive() {
  int status = 1;
  if (g.session->writable()) {
    status = Build(g.handoff->LibraryFile(kBuilderFile), g.session, g.handoff->json,
                   !g.handoff->plan.entries.empty());
  } else {
    ErrorReport("--build: there is no archive that could be written", "",
                "see 'pylaunch --explain'; -v and an unwritable cache folder prevent it");
  }
  return Py_FinalizeEx() < 0 && status == 0 ? 120 : status;
}

int MoveArchive() {
  const std::string path = g.session->path();
  g.session->Detach();
  if (!path.empty()) {
    const int status = Transfer(*g.handoff, path, Key(CurrentProgram()));
    Py_FinalizeEx();
    return status;
  }
  Py_FinalizeEx();
  ErrorReport("--export, --import: there is no archive", "the cache is off, or -v was given",
              "see 'pylaunch --explain'");
  return 1;
}

// In a process restored from an image: what OnPath did in the one it was made of, for this one's
// handoff.
bool Resume(const image::Restored& restored) {
  const bool attached = g.session_was_open;
  if (!ResumeImage(restored, g.handoff)) return false;
  if (attached) g.session->Open(*g.handoff, Key(CurrentProgram()), ModuleSuffixes());
  ResumeJournal(*g.handoff);
  if (g.handoff->image_trial) GoOnWithTrial();
  return true;
}

void SetUpExit(bool resumed) {
  if (resumed) {
    HideResumed(g.handoff->explain, !g.handoff->fast_exit);
  } else if (g.handoff->fast_exit && !g.handoff->plan.entries.empty() &&
             !CurrentProgram().verbose) {
    ArmFastExit(g.handoff->explain);
  }
}

// --image-build: the image is made, or a note says why not.
int EndWithoutProgram() {
  SetUpExit(/*resumed=*/false);
  const int status = Py_FinalizeEx() < 0 ? 120 : 0;
  EndSession();
  return status;
}

// Makes an image of this process, if it shall. True in a process restored from it; nothing: that
// failed.
std::optional<bool> CaptureOrResume(const EntryWatch& watch) {
  if (g.handoff->image.folder.empty()) return false;
  g.session_was_open = g.session->enabled();
  const image::Restored* restored = CaptureImage(g.handoff, g.session, watch);
  if (restored == nullptr) {
    // The process that writes the image, if there is one, still has its own.
    if (g.handoff->image_turn >= 0) close(std::exchange(g.handoff->image_turn, -1));
    return false;
  }
  if (Resume(*restored)) return true;
  PyErr_Print();
  return std::nullopt;
}

// All but the late ones.
std::optional<int> PreloadEarly(const Program& program, EntryWatch* watch) {
  std::vector<size_t> early;
  for (size_t i = 0; i < g.handoff->plan.entries.size(); ++i) {
    if (!image::IsLate(g.handoff->image.late, i)) early.push_back(i);
  }
  Progress progress(g.handoff->image_only);
  const bool watched = !g.handoff->image.folder.empty();
  std::optional<ArgumentReads> arguments;
  if (watched) {
    RecordQuestionsOfStart();
    StartSignalReads();  // Where there is no `site`.
    StartRandomDraws(g.handoff->image.hooks);
    arguments.emplace();
  }
  size_t done = 0;
  const auto before = [&](size_t entry) {
    progress.Show(done, early.size(),
                  std::to_string(done) + "/" + std::to_string(early.size()) + " entries");
    ++done;
    if (watched) watch->Before(entry);
  };
  const std::optional<int> stop =
      Preload(g.handoff->plan, early, program, g.handoff->LibraryFile(kDoctorFolder),
              g.handoff->explain, before);
  if (watched) watch->End();
  return stop;
}

// What this process's image was made without.
std::optional<int> PreloadLate(const image::LateEntries& late) {
  if (late.empty()) return std::nullopt;
  std::vector<size_t> indices;
  for (const image::LateEntry& entry : late) {
    indices.push_back(entry.index);
    if (g.handoff->explain) {
      Explain("image: imported late: " + g.handoff->plan.entries[entry.index].location.ToString() +
              ": " + InWords(g.handoff->plan, entry));
    }
  }
  return Preload(g.handoff->plan, indices, CurrentProgram(), g.handoff->LibraryFile(kDoctorFolder),
                 g.handoff->explain);
}

int Run(int argc, char** argv) {
  if (!g.handoff->image.folder.empty()) StartImageReads();
  TakeDataAhead();
  ServeArenas();
  std::optional<int> done = StartInterpreter(argc, argv, g.handoff->python, OnPath);
  if (done) return *done;
  if (!g.handoff->export_to.empty() || !g.handoff->import_from.empty()) return MoveArchive();
  // Both stay: a restored process returns into this function.
  const image::LateEntries& late = *new image::LateEntries(g.handoff->image.late);
  EntryWatch& watch = *new EntryWatch;
  if (g.handoff->image.cpu != image::CpuLevel::kOwn) MaskProcessor(g.handoff->image.cpu);
  if (!g.handoff->plan.entries.empty()) {
    NotePreload();
    done = PreloadEarly(CurrentProgram(), &watch);
    if (done) {
      Py_FinalizeEx();
      return *done;
    }
  }
  if (!g.handoff->image.folder.empty()) EndOfPreload();
  if (g.handoff->build) return BuildArchive();
  if (!g.handoff->plan.entries.empty()) g.session->Seal(/*ending=*/false);
  const std::optional<bool> resumed = CaptureOrResume(watch);
  if (!resumed) return 1;
  if (!*resumed && g.handoff->image_only) return EndWithoutProgram();
  done = PreloadLate(late);
  if (done) {
    if (*resumed) SetUpExit(/*resumed=*/true);
    Py_FinalizeEx();
    return *done;
  }
  WatchEnvironment(g.handoff->plan, g.handoff->explain);
  SetUpExit(*resumed);
  JournalProgram();
  Py_AtExit(EndSession);
  int exit_code = Py_RunMain();
  EndSession();
  return exit_code;
}

int EngineMain(int argc, char** argv, char**) {
  if (g.handoff->image_turn >= 0) fcntl(g.handoff->image_turn, F_SETFD, FD_CLOEXEC);
  if (!g.handoff->image.folder.empty()) {
    g.argc = argc;
    g.argv = argv;
    PrepareForImage(g.handoff->image, argc, argv);
    image::RunOnOwnStack([] { return Run(g.argc, g.argv); });
    StopOutputRecord();
    StopClockReads();
    g.handoff->image = image::ImageOrder();  // No memory for a stack, no image.
  }
  return Run(argc, argv);
}

// The front end may have gone by the executable's name alone. Py_GetVersion may be called before
// CPython is initialised.
bool IsOurPython() {
  int major = 0, minor = 0;
  const char* version = Py_GetVersion();
  return std::sscanf(version, "%d.%d", &major, &minor) == 2 && major == PY_MAJOR_VERSION &&
         minor == PY_MINOR_VERSION && std::strstr(version, "free-threading") == nullptr;
}

// True if EngineMain is to run instead of the executable's own main.
bool TakeOver(char** argv) {
  // A tool that starts pylaunch may stand between us and Python and exec it later, in this same
  // process: leave it all to that one.
  if (dlsym(RTLD_DEFAULT, "Py_RunMain") == nullptr) return false;
  std::optional<Handoff> handoff = TakeHandoff();
  if (!handoff) return false;
  g.started_ns = MonotonicNs();
  g.handoff = new Handoff(std::move(*handoff));
  g.session = new ArchiveSession();
  if (IsOurPython()) return true;
  Warning("running " + g.handoff->python + " without pylaunch: it is " + Py_GetVersion());
  argv[0] = g.handoff->python.data();
  return false;
}

}  // namespace
}  // namespace pylaunch::engine

// glibc's start-up code of every executable calls this with the executable's main
// (csu/libc-start.c).
extern "C" __attribute__((visibility("default"))) int __libc_start_main(
    pylaunch::engine::MainFunction main, int argc, char** argv, void (*init)(), void (*fini)(),
    void (*rtld_fini)(), void* stack_end) {
  using Function = pylaunch::engine::StartMain;
  PYLAUNCH_LIBC(__libc_start_main)
  if (pylaunch::engine::TakeOver(argv)) main = pylaunch::engine::EngineMain;
  return libc.Get()(main, argc, argv, init, fini, rtld_fini, stack_end);
}
