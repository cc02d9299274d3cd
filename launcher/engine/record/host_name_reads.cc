#include "launcher/engine/record/host_name_reads.h"

#include <Python.h>
#include <frameobject.h>
#include <opcode.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/contract/handoff.h"
#include "launcher/engine/base/known_list.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/wrap.h"
#include "launcher/engine/record/file_record.h"

namespace pylaunch::engine {
namespace {

constexpr std::string_view kIgnorers =
#include "host_name_ignorers.inc"
    ;
constexpr long kHostNameField = 1;  // Of five, in both results.
constexpr long kFields = 5;

// CPython and the C library call us with nothing of ours.
constinit struct {
  bool on = false;
  Diverted posix_uname;  // os.uname, too.
  Wrapped platform_uname;
} g;

std::string Utf8(PyObject* text) {
  const char* bytes = text != nullptr && PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : nullptr;
  PyErr_Clear();
  return bytes == nullptr ? "" : bytes;
}

// Made by whoever asks first, which may be who records nothing. Never freed, as all of `g`.
KnownList* Ignorers() {
  static auto* ignorers = new KnownList("host_name_ignorers.txt", kIgnorers);
  return ignorers;
}

bool IsIgnorer(PyObject* code) {
  PyObject* globals = PyEval_GetGlobals();
  if (globals == nullptr) return false;
  const std::string module = Utf8(PyDict_GetItemString(globals, "__name__"));
  const std::string function = Utf8(reinterpret_cast<PyCodeObject*>(code)->co_name);
  return Ignorers()->HasModule(module + ":" + function,
                               Utf8(PyDict_GetItemString(globals, "__file__")));
}

// Where in the code, in bytes, the instruction stands that calls us.
int CallAt(PyFrameObject* frame) {
#if PY_VERSION_HEX >= 0x030B0000
  return PyFrame_GetLasti(frame);
#else
  return frame->f_lasti * 2;
#endif
}

// The instructions of `code` (Doc/library/dis.rst), with what they refer to.
class Instructions {
 public:
  explicit Instructions(PyObject* code)
      : code_(PyRef::Steal(PyObject_GetAttrString(code, "co_code"))),
        names_(PyRef::Steal(PyObject_GetAttrString(code, "co_names"))),
        constants_(PyRef::Steal(PyObject_GetAttrString(code, "co_consts"))) {}
  bool ok() const {
    return code_ && names_ && constants_ && PyBytes_Check(code_.get()) &&
           PyTuple_Check(names_.get()) && PyTuple_Check(constants_.get());
  }

  // Behind the one at `at`, its caches, and what belongs to the same call.
  int After(int at) const {
    do {
      at += 2;
#if PY_VERSION_HEX >= 0x030B0000
      while (Op(at) == CACHE) at += 2;
    } while (Op(at) == CALL && at > 0 && IsPrecall(at));
#else
    } while (false);
#endif
    return at;
  }
  int Op(int at) const { return Byte(at); }
  // By which what the call at `at` calls without arguments was loaded; empty: in another way.
  std::string Called(int at) const {
    do {
      at -= 2;
    } while (IsOfCall(Op(at)));
    const int op = Op(at);
    int index = Byte(at + 1);
#if PY_VERSION_HEX >= 0x030C0000
    if (op != LOAD_ATTR && op != LOAD_GLOBAL && op != LOAD_NAME) return "";
    if (op != LOAD_NAME) index >>= 1;
#else
    if (op != LOAD_METHOD && op != LOAD_ATTR && op != LOAD_GLOBAL && op != LOAD_NAME) return "";
#if PY_VERSION_HEX >= 0x030B0000
    if (op == LOAD_GLOBAL) index >>= 1;
#endif
#endif
    return index < PyTuple_GET_SIZE(names_.get()) ? Utf8(PyTuple_GET_ITEM(names_.get(), index))
                                                  : "";
  }
  // What LOAD_ATTR at `at` takes; empty: something else.
  std::string Attribute(int at) const {
    if (Op(at) != LOAD_ATTR) return "";
#if PY_VERSION_HEX >= 0x030C0000
    if ((Byte(at + 1) & 1) != 0) return "";  // A method.
    const int index = Byte(at + 1) >> 1;
#else
    const int index = Byte(at + 1);
#endif
    return index < PyTuple_GET_SIZE(names_.get()) ? Utf8(PyTuple_GET_ITEM(names_.get(), index))
                                                  : "";
  }
  // The number by which the two instructions from `at` on take an item; kHostNameField if none.
  long Index(int at) const {
    if (!IsSubscript(at + 2)) return kHostNameField;
#if PY_VERSION_HEX >= 0x030E0000
    if (Op(at) == LOAD_SMALL_INT) return Byte(at + 1);
#endif
#if PY_VERSION_HEX >= 0x030F0000
    constexpr int kMinusOne = 11;  // CONSTANT_MINUS_ONE of pycore_opcode_utils.h.
    if (Op(at) == LOAD_COMMON_CONSTANT && Byte(at + 1) == kMinusOne) return kFields - 1;
#endif
    if (Op(at) != LOAD_CONST) return kHostNameField;
    const int index = Byte(at + 1);
    if (index >= PyTuple_GET_SIZE(constants_.get())) return kHostNameField;
    PyObject* number = PyTuple_GET_ITEM(constants_.get(), index);
    const long value = PyLong_CheckExact(number) ? PyLong_AsLong(number) : kHostNameField;
    PyErr_Clear();
    return value < 0 ? value + kFields : value;
  }

 private:
  bool IsSubscript(int at) const {
#if PY_VERSION_HEX >= 0x030E0000
    return Op(at) == BINARY_OP && Byte(at + 1) == NB_SUBSCR;
#else
    return Op(at) == BINARY_SUBSCR;
#endif
  }
  static bool IsOfCall([[maybe_unused]] int op) {
#if PY_VERSION_HEX >= 0x030C0000
    return op == CACHE || op == PUSH_NULL;
#elif PY_VERSION_HEX >= 0x030B0000
    return op == CACHE || op == PUSH_NULL || op == PRECALL;
#else
      return false;
#endif
  }
  int Byte(int at) const {
    return at >= 0 && at < PyBytes_GET_SIZE(code_.get())
               ? static_cast<unsigned char>(PyBytes_AS_STRING(code_.get())[at])
               : -1;
  }
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000
  // 3.11 has two instructions for a call, and a quick form of the first does all of it.
  bool IsPrecall(int call) const { return Op(call - 2) == CACHE && Op(call - 4) == PRECALL; }
#elif PY_VERSION_HEX >= 0x030C0000
  bool IsPrecall(int) const { return false; }
#endif

  PyRef code_, names_, constants_;
};

bool TakesAnotherField(PyObject* code, int call) {
  const Instructions instructions(code);
  // Else C code may stand between, which calls us for something that is kept.
  if (!instructions.ok() || instructions.Called(call) != "uname") return false;
  const int next = instructions.After(call);
  const std::string field = instructions.Attribute(next);
  for (const char* other : {"sysname", "system", "release", "version", "machine"}) {
    if (field == other) return true;
  }
  const long index = instructions.Index(next);
  return index >= 0 && index < kFields && index != kHostNameField;
}

// Of what has called us.
void NoteCaller() {
  if (!g.on) return;  // Somebody has kept ours.
  PyFrameObject* frame = PyEval_GetFrame();
  if (frame != nullptr) {
    PyRef code = PyRef::Steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
    if (IsIgnorer(code.get()) || TakesAnotherField(code.get(), CallAt(frame))) {
      return PyErr_Clear();
    }
    PyErr_Clear();
  }
  NoteQuestionOfStart(kHostName);
}

PyObject* PosixUname(PyObject* self, PyObject* nothing) {
  NoteCaller();
  return g.posix_uname.Call(self, nothing);
}

PyObject* PlatformUname(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  NoteCaller();
  return g.platform_uname.Call(args, count, keywords);
}

PyObject* Loaded(const char* name) {
  PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), name);
  return module != nullptr && PyModule_Check(module) ? module : nullptr;
}

void UnwrapPlatform() {
  PyObject* module = Loaded("platform");
  if (module == nullptr || g.platform_uname.original == nullptr) return;
  PyRef now = PyRef::Steal(PyObject_GetAttrString(module, "uname"));
  // Another one means that somebody put his own there.
  if (now && PyCFunction_Check(now.get()) &&
      reinterpret_cast<PyCFunctionObject*>(now.get())->m_ml == &g.platform_uname.def) {
    PyObject_SetAttrString(module, "uname", g.platform_uname.original);
  }
  PyErr_Clear();
}

}  // namespace

void StartHostNameReads() {
  g.on = true;
  PyObject* posix = Loaded("posix");
  if (posix == nullptr || !g.posix_uname.Install(posix, "uname", PosixUname)) {
    NoteQuestionOfStart(kHostName);  // Nobody would see it.
  }
  FollowPlatform();
}

void FollowPlatform() {
  PyObject* platform = g.on && g.platform_uname.original == nullptr ? Loaded("platform") : nullptr;
  if (platform == nullptr) return;
  // It is in sys.modules before it is whole.
  if (PyDict_GetItemString(PyModule_GetDict(platform), "uname") == nullptr) return;
  if (!g.platform_uname.Install(platform, "uname", PlatformUname)) NoteQuestionOfStart(kHostName);
  PyErr_Clear();
}

std::vector<std::string> HostNameListToReadAgain() { return Ignorers()->ToReadAgain(); }

void StopHostNameReads() {
  g.on = false;
  g.posix_uname.Remove();
  UnwrapPlatform();
}

}  // namespace pylaunch::engine
