#include "launcher/engine/imaging/resume.h"

#include <Python.h>
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "image/capture.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"
#include "launcher/engine/base/tracing_pause.h"
#include "launcher/engine/exit/exit.h"
#include "launcher/engine/exit/exit_handlers.h"
#include "launcher/engine/imaging/archive_path.h"
#include "launcher/engine/imaging/finalizer_registry.h"
#include "launcher/engine/imaging/free_memory.h"
#include "launcher/engine/imaging/live_objects.h"
#include "launcher/engine/imaging/processor_permission.h"
#include "launcher/engine/imaging/trial_pages.h"
#include "launcher/engine/record/argument_reads.h"
#include "launcher/engine/record/output_record.h"
#include "launcher/engine/record/random_draws.h"
#include "launcher/engine/record/signal_reads.h"
#include "launcher/engine/start/interpreter.h"
#include "launcher/engine/start/takeover.h"

extern "C" const PyConfig* _Py_GetConfig(void);
extern char** environ;

namespace pylaunch::engine {
namespace {

// glibc remembers the image's break, which is not this process's. The guard page behind ours lets
// no call succeed, but a failed one tells glibc where it is; malloc then takes from mmap.
void ForgetBreak() {
  if (brk(reinterpret_cast<void*>(~uintptr_t{0} - 4095)) != 0) errno = 0;
}

void NameProgram(char* argv0) {
  program_invocation_name = argv0;
  const char* slash = std::strrchr(argv0, '/');
  program_invocation_short_name = slash == nullptr ? argv0 : const_cast<char*>(slash) + 1;
}

bool SetList(const char* name, const PyWideStringList& values) {
  PyObject* old = ListOfThisStart(name);
  if (old == nullptr) return true;
  PyRef list = PyRef::Steal(PyList_New(0));
  for (Py_ssize_t i = 0; list && i < values.length; ++i) {
    PyRef item = PyRef::Steal(PyUnicode_FromWideChar(values.items[i], -1));
    if (!item || PyList_Append(list.get(), item.get()) < 0) return false;
  }
  // In place: preloaded modules may have taken the list.
  return list && PyList_SetSlice(old, 0, PyList_GET_SIZE(old), list.get()) == 0;
}

PyStatus TakeFields(PyConfig* to, const PyConfig& from) {
  PyStatus status = PyConfig_SetString(to, &to->run_command, from.run_command);
  if (!PyStatus_Exception(status)) {
    status = PyConfig_SetString(to, &to->run_module, from.run_module);
  }
  if (!PyStatus_Exception(status)) {
    status = PyConfig_SetString(to, &to->run_filename, from.run_filename);
  }
  if (!PyStatus_Exception(status)) {
    status = PyConfig_SetWideStringList(to, &to->argv, from.argv.length, from.argv.items);
  }
  if (!PyStatus_Exception(status)) {
    status =
        PyConfig_SetWideStringList(to, &to->orig_argv, from.orig_argv.length, from.orig_argv.items);
  }
  return status;
}

// Py_RunMain runs what the interpreter's configuration says. CPython parses the new command line
// into another one; Python's options are the same (the key proves it), what is run differs.
bool SetProgram(const image::Restored& restored) {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  PyStatus status = PyConfig_SetBytesArgv(&config, restored.argc, restored.argv);
  if (!PyStatus_Exception(status)) status = PyConfig_Read(&config);
  bool done = false;
  if (!PyStatus_Exception(status)) {
    // No public call changes the configuration of a running interpreter.
    status = TakeFields(const_cast<PyConfig*>(_Py_GetConfig()), config);
    done = !PyStatus_Exception(status) && SetList("argv", config.argv) &&
           SetList("orig_argv", config.orig_argv);
  }
  PyConfig_Clear(&config);
  // Nothing to run (-V, "-c" without a command): CPython has said why.
  if (PyStatus_IsExit(status)) exit(status.exitcode);
  if (PyStatus_Exception(status)) PyErr_SetString(PyExc_RuntimeError, status.err_msg);
  return done;
}

// In words.
std::string TakeError() {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyRef kept[] = {PyRef::Steal(type), PyRef::Steal(value), PyRef::Steal(traceback)};
  PyRef text = PyRef::Steal(value == nullptr ? nullptr : PyObject_Repr(value));
  const char* words = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
  std::string error = words == nullptr ? "?" : words;
  PyErr_Clear();
  return error;
}

// For hooks: calls `function`, a void(int, void*), with nothing, in `library` if that is loaded.
PyObject* ResetLibrary(PyObject*, PyObject* arguments) {
  const char *library, *name;
  if (!PyArg_ParseTuple(arguments, "ss", &library, &name)) return nullptr;
  if (void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD)) {
    using Function = void (*)(int, void*);
    if (const auto function = reinterpret_cast<Function>(dlsym(handle, name))) function(0, nullptr);
    dlclose(handle);
  }
  Py_RETURN_NONE;
}

// For resume.py: whether a hook that begins with this line is for that module.
PyObject* IsHookForModule(PyObject*, PyObject* arguments) {
  const char *name, *first_line;
  PyObject* module;
  if (!PyArg_ParseTuple(arguments, "ssO", &name, &first_line, &module)) return nullptr;
  return PyBool_FromLong(IsHookFor(name, first_line, module));
}

PyMethodDef kIsHookFor = {"is_hook_for", IsHookForModule, METH_VARARGS, nullptr};
PyMethodDef kResetLibrary = {"reset_library", ResetLibrary, METH_VARARGS, nullptr};

}  // namespace

void Resumption::Note(int argc, char** argv) {
  process_ = getpid();
  ignored_ = IgnoredSignals();
  for (int fd = 0; fd < 3; ++fd) terminals_[fd] = isatty(fd) == 1;
  environment_.Note(argc, argv);
}

std::string Resumption::PrepareModules(const std::string& folder) {
  const std::string path = folder + "/resume.py";
  std::ifstream file(path);
  const std::string source{std::istreambuf_iterator<char>(file), {}};
  PyRef globals = PyRef::Steal(PyDict_New());
  PyRef marked = PyRef::Steal(NewMarkedForExit());
  if (globals && marked) PyDict_SetItemString(globals.get(), "marked_for_exit", marked.get());
  PyRef reset = PyRef::Steal(PyCFunction_New(&kResetLibrary, nullptr));
  if (globals && reset) PyDict_SetItemString(globals.get(), "reset_library", reset.get());
  PyRef is_hook_for = PyRef::Steal(PyCFunction_New(&kIsHookFor, nullptr));
  if (globals && is_hook_for) {
    PyDict_SetItemString(globals.get(), "is_hook_for", is_hook_for.get());
  }
  PyRef live = PyRef::Steal(NewLiveObjects());
  if (globals && live) PyDict_SetItemString(globals.get(), "live_objects", live.get());
  PyRef code = PyRef::Steal(Py_CompileString(source.c_str(), path.c_str(), Py_file_input));
  PyRef ran = code && globals
                  ? PyRef::Steal(PyEval_EvalCode(code.get(), globals.get(), globals.get()))
                  : PyRef();
  PyObject* prepare = ran ? PyDict_GetItemString(globals.get(), "prepare") : nullptr;
  PyRef prepared = prepare == nullptr
                       ? PyRef()
                       : PyRef::Steal(PyObject_CallFunction(
                             prepare, "si(iii)i", folder.c_str(), process_, terminals_[0],
                             terminals_[1], terminals_[2], _Py_GetConfig()->buffered_stdio));
  PyObject* resume = prepared ? PyDict_GetItemString(globals.get(), "resume") : nullptr;
  PyObject* refill = prepared ? PyDict_GetItemString(globals.get(), "refill") : nullptr;
  if (resume == nullptr || refill == nullptr) return path + " failed: " + TakeError();
  has_output_ = prepared.get() == Py_True;
  resume_ = Py_NewRef(resume);
  refill_ = Py_NewRef(refill);
  PyObject* renewed = PyDict_GetItemString(globals.get(), "renewed_files");
  for (Py_ssize_t i = 0; renewed != nullptr && i < PyList_GET_SIZE(renewed); ++i) {
    std::string file;
    if (FileSystemBytes(PyList_GET_ITEM(renewed, i), &file)) renewed_files_.push_back(file);
  }
  return "";
}

std::string Resumption::Prepare(const std::string& folder) {
  TakeFreeMemory();
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action;
    // What the starter has ignored and preloading has not, would be ignored again.
    const bool kept = sigismember(&ignored_, number) == 1;
    if (sigaction(number, nullptr, &action) == 0 && (kept || action.sa_handler != SIG_DFL)) {
      signals_.emplace_back(number, action);
    }
  }
  sigaltstack(nullptr, &signal_stack_);
  processor_state_ = PermittedState();
  save_area_ = SaveArea::Now();
  registrations_ = KernelRegistrations::Now();
  libraries_ = LibraryIds::Now();
  if (std::string why = PrepareModules(folder); !why.empty()) return why;
  if (!CurrentProgram().verbose) {
    ArmFastExit(/*explain=*/false);
    HidePreloaded();
    MarkQuietLibraries(folder);
  }
  environment_.Scrub();
  // Its entries hold references to names, each of which would be a copied page when a restored
  // process looks for another one.
  PyType_ClearCache();
  TakeFreeMemory();
  return "";
}

bool Resumption::Renew(const image::Restored& restored, const sigset_t& ignored, Handoff* handoff,
                       ArchivePath* back) {
  const bool permitted = RequestState(processor_state_);
  registrations_.Repeat();
  libraries_.Renew();
  ForgetBreak();
  for (const auto& [number, action] : signals_) {
    if (!IsIgnoredOtherwise(number, ignored_, ignored)) sigaction(number, &action, nullptr);
  }
  if ((signal_stack_.ss_flags & SS_DISABLE) == 0) sigaltstack(&signal_stack_, nullptr);
  NameProgram(restored.argv[0]);
  environ = restored.envp;
  if (std::optional<Handoff> taken = TakeHandoff(back->descriptors())) {
    new Handoff(std::exchange(*handoff, std::move(*taken)));  // Not freed: see CaptureImage.
  }
  environment_.Resume(environ);
  if (!permitted) {
    PyErr_SetString(PyExc_RuntimeError, "no permission for the processor's extended state");
    return false;
  }
  if (!ReopenFiles(back)) return false;
  PyOS_AfterFork_Child();
  if (!CatchUpOnSignals(ignored_, ignored)) return false;
  if (!SetProgram(restored)) return false;
  ForgetListsOfThisStart();
  return static_cast<bool>(PyRef::Steal(PyObject_CallNoArgs(static_cast<PyObject*>(resume_))));
}

bool Resumption::ReopenFiles(ArchivePath* back) const {
  if (!back->MakeWayFor(files_)) {
    PyErr_SetString(PyExc_OSError, "a descriptor is in use that a preloaded module has");
    return false;
  }
  for (const OpenFile& file : files_) {
    if (Reopen(file)) continue;
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, file.path.c_str());
    return false;
  }
  return true;
}

bool Resumption::RepeatPrinted() const {
  if (!RepeatOutput()) {
    PyErr_SetFromErrno(PyExc_OSError);
    return false;
  }
  return static_cast<bool>(PyRef::Steal(PyObject_CallNoArgs(static_cast<PyObject*>(refill_))));
}

bool Resumption::Resume(const image::Restored& restored, Handoff* handoff) {
  TracingPause pause;
  ArchivePath back(restored);
  const sigset_t ignored = IgnoredSignals();  // The starter's.
  const bool renewed = Renew(restored, ignored, handoff, &back);
  if (renewed && handoff->image_trial) PassTrial(*handoff);
  if (renewed && RepeatPrinted()) {
    back.Close();
    return true;
  }
  const std::string why = TakeError();
  if (handoff->image_trial) {
    (void)!write(2, why.data(), why.size());
    _exit(1);
  }
  if (handoff->explain) Explain("image: cannot be resumed: " + why);
  back.Take(*handoff, image::InheritedMask(), ignored);
  PyErr_SetString(PyExc_RuntimeError, why.c_str());
  return false;
}

}  // namespace pylaunch::engine
