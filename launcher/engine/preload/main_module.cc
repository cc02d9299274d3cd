#include "launcher/engine/preload/main_module.h"

#include <unistd.h>

#include <cstring>
#include <string>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/preload/surroundings.h"
#include "launcher/engine/record/file_record.h"

extern "C" const PyConfig* _Py_GetConfig(void);

namespace pylaunch::engine {
namespace {

PyRef FindSpec(const std::string& name, PyObject* path) {
  PyRef bootstrap = BuiltinModule("_frozen_importlib");
  PyRef spec = bootstrap ? PyRef::Steal(PyObject_CallMethod(bootstrap.get(), "_find_spec", "sO",
                                                            name.c_str(), path))
                         : PyRef();
  return spec.get() != Py_None ? std::move(spec) : PyRef();
}

// Where the modules of the package lie; empty if it is none.
PyRef LocationsOf(PyObject* spec) {
  PyRef locations = PyRef::Steal(PyObject_GetAttrString(spec, "submodule_search_locations"));
  if (!locations || locations.get() == Py_None) return PyRef();
  if (PyList_Check(locations.get())) return locations;
  // A namespace's, which would ask the package above for its path, and that is not imported
  // (_NamespacePath).
  return PyRef::Steal(PyObject_GetAttrString(locations.get(), "_path"));
}

// As runpy finds it (_get_module_details).
PyRef FindModule(const std::string& module) {
  PyRef spec, path = PyRef::Share(Py_None);
  for (size_t end = 0; end != module.npos;) {
    end = module.find('.', end + 1);
    if (!path) return PyRef();
    spec = FindSpec(module.substr(0, end), path.get());
    if (!spec) return PyRef();
    path = LocationsOf(spec.get());
  }
  PyErr_Clear();
  return path ? FindSpec(module + ".__main__", path.get()) : std::move(spec);
}

// As pymain_run_stdin (Modules/main.c): a session has no file.
PyRef FileOfInput() {
  const bool session = isatty(STDIN_FILENO) == 1 || _Py_GetConfig()->interactive != 0;
  return session ? PyRef() : PyRef::Steal(PyUnicode_FromString("<stdin>"));
}

// The file that the program's first line stands in; empty for a command, a session and what is not
// found. `module`: gets the spec of a program that is one (-m).
PyRef FileOf(const Program& program, PyRef* module) {
  ReadRecordPause pause;
  if (_Py_GetConfig()->run_command != nullptr) return PyRef();
  if (program.module.empty() && program.filename.empty()) return FileOfInput();
  PyRef spec;
  if (!program.module.empty()) {
    spec = FindModule(program.module);
  } else {
    PyRef filename = PyRef::Steal(PyUnicode_DecodeFSDefault(program.filename.c_str()));
    if (!filename || !IsImportable(filename.get())) return filename;
    PyRef path = PyRef::Steal(PyList_New(0));
    if (path && PyList_Append(path.get(), filename.get()) == 0) {
      spec = FindSpec("__main__", path.get());
    }
  }
  PyRef origin = spec ? PyRef::Steal(PyObject_GetAttrString(spec.get(), "origin")) : PyRef();
  if (!program.module.empty()) *module = std::move(spec);
  return origin && PyUnicode_Check(origin.get()) ? std::move(origin) : PyRef();
}

// ------------------------------------------------------------------------------------------------
// A sys.argv that runpy is not to write to

// What the audit hook goes by, which stays for good.
constinit struct {
  bool keep = false;
  PyObject* kept = nullptr;   // While runpy has another one.
  PyObject* first = nullptr;  // The list of the start, if it waits for the path, too.
} g;

PyRef FreshArguments() {
  const PyWideStringList& argv = _Py_GetConfig()->argv;
  PyRef list = PyRef::Steal(PyList_New(0));
  for (Py_ssize_t i = 0; list && i < argv.length; ++i) {
    PyRef item = PyRef::Steal(PyUnicode_FromWideChar(argv.items[i], -1));
    if (!item || PyList_Append(list.get(), item.get()) < 0) return PyRef();
  }
  return list;
}

// Borrowed; null: there is none.
PyObject* FirstOf(PyObject* list) {
  const bool some = list != nullptr && PyList_Check(list) && PyList_GET_SIZE(list) > 0;
  return some ? PyList_GET_ITEM(list, 0) : nullptr;
}

void SetFirst(PyObject* list, PyRef text) { PyList_SetItem(list, 0, text.release()); }

bool IsRunCode() {
  PyFrameObject* frame = PyEval_GetFrame();
  if (frame == nullptr) return false;
  PyRef code = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  std::string function, file;
  FileSystemBytes(reinterpret_cast<PyCodeObject*>(code.get())->co_name, &function);
  FileSystemBytes(reinterpret_cast<PyCodeObject*>(code.get())->co_filename, &file);
  return function == "_run_code" && (file == "<frozen runpy>" || file.ends_with("/runpy.py"));
}

// Modules/main.c raises the first, and runpy's `exec` of the program the second.
int OnAuditEvent(const char* event, PyObject*, void*) {
  if (g.keep && std::strcmp(event, "cpython.run_module") == 0) {
    g.keep = false;
    PyRef kept = PyRef::Share(PySys_GetObject("argv"));
    PyRef fresh = FreshArguments();
    if (kept && fresh && PySys_SetObject("argv", fresh.get()) == 0) g.kept = kept.release();
  } else if (g.kept != nullptr && std::strcmp(event, "exec") == 0 && IsRunCode()) {
    PyObject* path = FirstOf(PySys_GetObject("argv"));
    if (g.first != nullptr && path != nullptr) SetFirst(g.first, PyRef::Share(path));
    Py_CLEAR(g.first);
    PySys_SetObject("argv", g.kept);
    Py_CLEAR(g.kept);
  }
  PyErr_Clear();
  return 0;
}

}  // namespace

MainModule::MainModule(const Program& program) : file_(FileOf(program, &spec_)) {
  PyErr_Clear();
  PyObject* main = PyImport_AddModule("__main__");
  if (!file_ || main == nullptr) return;
  PyObject* names = PyModule_GetDict(main);
  PyDict_SetItemString(names, "__file__", file_.get());
  if (spec_) {
    former_ = PyRef::Share(PyDict_GetItemString(names, "__spec__"));
    PyDict_SetItemString(names, "__spec__", spec_.get());
  }
  PyObject* argv = PySys_GetObject("argv");
  PyObject* first = FirstOf(argv);
  if (!program.module.empty() && !g.keep && first != nullptr) {
    list_ = PyRef::Share(argv);
    option_ = PyRef::Share(first);
    SetFirst(argv, PyRef::Share(file_.get()));
  }
  PyErr_Clear();
}

MainModule::~MainModule() {
  PyObject* main = file_ ? PyImport_AddModule("__main__") : nullptr;
  if (main != nullptr) PyDict_DelItemString(PyModule_GetDict(main), "__file__");
  if (main != nullptr && former_)
    PyDict_SetItemString(PyModule_GetDict(main), "__spec__", former_.get());
  PyErr_Clear();
  if (!list_) return;
  const bool same = FirstOf(list_.get()) == file_.get();
  if (same) SetFirst(list_.get(), std::move(option_));
  if (!same || PySys_GetObject("argv") != list_.get()) {
    if (same) g.first = list_.release();
    g.keep = PySys_AddAuditHook(OnAuditEvent, nullptr) == 0;
  }
  PyErr_Clear();
}

}  // namespace pylaunch::engine
