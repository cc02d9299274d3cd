#include "launcher/engine/preload/surroundings.h"

#include <stdlib.h>
#include <unistd.h>

#include <climits>
#include <cstring>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/record/file_record.h"

namespace pylaunch::engine {
namespace {

PyRef Decode(const std::string& bytes) {
  return PyRef::Steal(
      PyUnicode_DecodeFSDefaultAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
}

// sys.argv[0] as the interpreter left it for Py_RunMain: "-c", "-m", "", "-" or a file.
std::string Argv0() {
  std::string argv0;
  PyObject* argv = PySys_GetObject("argv");
  if (argv != nullptr && PyList_Check(argv) && PyList_GET_SIZE(argv) > 0)
    FileSystemBytes(PyList_GET_ITEM(argv, 0), &argv0);
  return argv0;
}

// Python/pathconfig.c, _PyPathConfig_ComputeSysPath0. Null: nothing is put in front.
PyRef ComputePath0() {
  char buffer[PATH_MAX];
  std::string argv0 = Argv0();
  if (argv0 == "-m") return getcwd(buffer, sizeof buffer) != nullptr ? Decode(buffer) : PyRef();
  if (argv0 == "-c") return Decode("");
  std::string path = realpath(argv0.c_str(), buffer) != nullptr ? buffer : argv0;
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return Decode("");
  return Decode(path.substr(0, slash == 0 ? 1 : slash));
}

// What is run may stand in sys.path itself, safe path or not.
PyRef Path0(const Program& program) {
  if (!program.filename.empty()) {
    PyRef filename = Decode(program.filename);
    if (!filename || IsImportable(filename.get())) return filename;
  }
  return program.safe_path ? PyRef() : ComputePath0();
}

// Py_RunMain puts its own entry in front of everything, in front of what a preloaded module put
// there too; had the program imported that module itself, its folder would come after. So in this
// rare case ours stays where it is, and the new one goes again when CPython says that the program
// is about to run (Modules/main.c raises cpython.run_* then). Global: an audit hook stays for good.
bool g_drop_first = false;

int OnAuditEvent(const char* event, PyObject*, void*) {
  if (!g_drop_first || std::strncmp(event, "cpython.run_", std::strlen("cpython.run_")) != 0)
    return 0;
  g_drop_first = false;
  PyObject* path = PySys_GetObject("path");
  return path != nullptr && PyList_Check(path) ? PyList_SetSlice(path, 0, 1, nullptr) : 0;
}

void DropFirstEntryLater() { g_drop_first = PySys_AddAuditHook(OnAuditEvent, nullptr) == 0; }

}  // namespace

// (pymain_get_importer) Py_RunMain asks for itself: a file that is no such thing leaves no trace
// here, and an image need not be made anew for every change to the program.
bool IsImportable(PyObject* path) {
  ReadRecordPause pause;
  PyRef importer = PyRef::Steal(PyImport_GetImporter(path));
  if (importer && importer.get() != Py_None) return true;
  PyObject* known = PySys_GetObject("path_importer_cache");
  if (known != nullptr && PyDict_Check(known)) PyDict_DelItem(known, path);
  PyErr_Clear();
  return false;
}

ProgramPath::ProgramPath(const Program& program) {
  if (g_drop_first) return;  // An earlier one's is still in its place.
  PyRef path0 = Path0(program);
  PyObject* path = PySys_GetObject("path");
  if (path0 && path != nullptr && PyList_Check(path)) {
    // A str of our own, so that the destructor finds just this one.
    entry_ = PyRef::Steal(PyUnicode_FromKindAndData(PyUnicode_KIND(path0.get()),
                                                    PyUnicode_DATA(path0.get()),
                                                    PyUnicode_GET_LENGTH(path0.get())));
    if (entry_) PyList_Insert(path, 0, entry_.get());
  }
  PyErr_Clear();
}

ProgramPath::~ProgramPath() {
  PyObject* path = PySys_GetObject("path");
  if (!entry_ || path == nullptr || !PyList_Check(path)) return;
  // Moved or taken away by a preloaded module: then that is how the program would have it.
  if (PyList_GET_SIZE(path) == 0 || PyList_GET_ITEM(path, 0) != entry_.get()) {
    DropFirstEntryLater();
  } else if (PyList_SetSlice(path, 0, 1, nullptr) < 0) {
    PyErr_Clear();
  }
}

// gc_collect_generations() (Modules/gcmodule.c, Python/gc.c) begins no full collection before a
// quarter as many objects are new as the last one left.
CollectionHeldBack::CollectionHeldBack() {
  PyRef newest = PyRef::Steal(PyList_New(0));
  if (newest && PyObject_GC_IsTracked(newest.get())) state_ = gc::FindState(newest.get());
  if (!state_) return;
  long_lived_ = *state_.long_lived_total;
  *state_.long_lived_total = PY_SSIZE_T_MAX;
}

CollectionHeldBack::~CollectionHeldBack() {
  // Another value is that of a full collection that a module has asked for.
  if (!state_ || *state_.long_lived_total != PY_SSIZE_T_MAX) return;
  *state_.long_lived_total = long_lived_ + *state_.long_lived_pending;
  *state_.long_lived_pending = 0;
}

EntryEnvironment::EntryEnvironment(const std::vector<EnvSetting>& settings) {
  if (settings.empty()) return;
  // Without `site` it may not be there; whoever looks for variables will import it.
  PyRef os = LoadedModule("os");
  if (!os) os = PyRef::Steal(PyImport_ImportModule("os"));
  if (os) environ_ = PyRef::Steal(PyObject_GetAttrString(os.get(), "environ"));
  for (const EnvSetting& setting : settings) {
    if (!environ_) break;
    PyRef name = Decode(setting.name);
    PyRef value = Decode(setting.value);
    if (!name || !value) break;
    PyRef old = PyRef::Steal(PyObject_GetItem(environ_.get(), name.get()));
    PyErr_Clear();
    if (old && setting.only_if_unset) continue;
    if (PyObject_SetItem(environ_.get(), name.get(), value.get()) == 0)
      before_.emplace_back(std::move(name), std::move(old));
  }
  PyErr_Clear();
}

EntryEnvironment::~EntryEnvironment() {
  for (auto it = before_.rbegin(); it != before_.rend(); ++it) {
    if (it->second) {
      PyObject_SetItem(environ_.get(), it->first.get(), it->second.get());
    } else {
      PyObject_DelItem(environ_.get(), it->first.get());
    }
    PyErr_Clear();
  }
}

}  // namespace pylaunch::engine
