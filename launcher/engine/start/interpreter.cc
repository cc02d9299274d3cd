#include "launcher/engine/start/interpreter.h"

#include <Python.h>

#include <cstring>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/start/arena_memory.h"

// Exported by CPython 3.10 to 3.15, declared only in internal headers
// (Include/internal/pycore_initconfig.h).
extern "C" const PyConfig* _Py_GetConfig(void);
// The same, for embedders that initialise in two phases (Doc/c-api/init_config.rst, "Multi-Phase
// Initialization Private Provisional API"). 3.14 alone lacks it.
extern "C" __attribute__((weak)) PyStatus _Py_InitializeMain(void);

namespace pylaunch::engine {
namespace {

// CPython calls OnExternalImporters with nothing of ours.
constinit struct {
  std::function<void(const Program&)>* on_path = nullptr;  // During StartInterpreter only.
  PyObject* install_external_importers = nullptr;
} g;

void Wipe(char* text, size_t size) { explicit_bzero(text, size); }

std::string Bytes(const wchar_t* text) {
  std::string out;
  if (text == nullptr) return out;
  char* bytes = Py_EncodeLocale(text, nullptr);
  if (bytes != nullptr) {
    out = bytes;
    Wipe(bytes, out.size());
  }
  PyMem_Free(bytes);
  return out;
}

// Stands in for importlib._bootstrap._install_external_importers during its one call: PathFinder
// enters sys.meta_path there.
PyObject* OnExternalImporters(PyObject*, PyObject*) {
  PyRef result = PyRef::Steal(PyObject_CallNoArgs(g.install_external_importers));
  if (!result) return nullptr;
  PyRef bootstrap = BuiltinModule("_frozen_importlib");
  if (!bootstrap || PyObject_SetAttrString(bootstrap.get(), "_install_external_importers",
                                           g.install_external_importers) < 0) {
    return nullptr;
  }
  (*g.on_path)(CurrentProgram());
  return PyErr_Occurred() ? nullptr : result.release();
}

PyMethodDef kHook = {"_install_external_importers", OnExternalImporters, METH_NOARGS, nullptr};

bool HookExternalImporters() {
  PyRef bootstrap = BuiltinModule("_frozen_importlib");
  PyRef hook = PyRef::Steal(PyCFunction_New(&kHook, nullptr));
  if (!bootstrap || !hook) return false;
  g.install_external_importers =
      PyObject_GetAttrString(bootstrap.get(), "_install_external_importers");
  return g.install_external_importers != nullptr &&
         PyObject_SetAttrString(bootstrap.get(), "_install_external_importers", hook.get()) == 0;
}

// As pymain_exit_error and Py_ExitStatusException: a status is an exit code or fatal.
std::optional<int> ExitCode(const PyStatus& status) {
  if (PyStatus_IsExit(status)) return status.exitcode;
  if (PyStatus_Exception(status)) Py_ExitStatusException(status);
  return std::nullopt;
}

PyStatus Initialize(int argc, char** argv, const std::string& program_name, bool core_only) {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  PyStatus status = PyConfig_SetBytesArgv(&config, argc, argv);
  if (!PyStatus_Exception(status)) {
    status = PyConfig_SetBytesString(&config, &config.program_name, program_name.c_str());
  }
  if (core_only) config._init_main = 0;
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  return status;
}

// Two phases, so that the finder can be in place before the second one imports `encodings` and
// `site`.
PyStatus InitializeCore(int argc, char** argv, const std::string& program_name) {
  PyPreConfig preconfig;
  PyPreConfig_InitPythonConfig(&preconfig);
  const PyStatus status = Py_PreInitializeFromBytesArgs(&preconfig, argc, argv);
  if (PyStatus_Exception(status)) return status;
  KeepFramePieces();
  return Initialize(argc, argv, program_name, /*core_only=*/true);
}

// The second one. Without CPython's own function from the same words once more: what is there is
// kept (Python/pylifecycle.c, pyinit_core_reconfigure).
PyStatus InitializeMain(int argc, char** argv, const std::string& program_name) {
  if (_Py_InitializeMain != nullptr) return _Py_InitializeMain();
  return Initialize(argc, argv, program_name, /*core_only=*/false);
}

}  // namespace

void Program::WipeCommand() { Wipe(command.data(), command.size()); }

Program CurrentProgram() {
  const PyConfig* config = _Py_GetConfig();
  Program program;
  program.command = Bytes(config->run_command);
  program.module = Bytes(config->run_module);
  program.filename = Bytes(config->run_filename);
#if PY_VERSION_HEX >= 0x030B0000
  program.safe_path = config->safe_path != 0;
#else
  program.safe_path = config->isolated != 0;
#endif
  program.optimize = config->optimization_level;
  program.verbose = config->verbose != 0;
  return program;
}

std::optional<int> StartInterpreter(int argc, char** argv, const std::string& program_name,
                                    const std::function<void(const Program&)>& on_path) {
  std::function<void(const Program&)> hook = on_path;
  g.on_path = &hook;
  std::optional<int> exit_code = ExitCode(InitializeCore(argc, argv, program_name));
  if (exit_code) return exit_code;
  if (!HookExternalImporters()) {
    PyErr_Print();
    return 1;
  }
  exit_code = ExitCode(InitializeMain(argc, argv, program_name));
  g.on_path = nullptr;
  return exit_code;
}

}  // namespace pylaunch::engine
