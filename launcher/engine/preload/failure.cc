#include "launcher/engine/preload/failure.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/preload/statement.h"

namespace pylaunch::engine {
namespace {

constexpr size_t kLongestCause = 600;

std::string Text(PyObject* object) {
  PyRef str = object == nullptr ? PyRef() : PyRef::Steal(PyObject_Str(object));
  const char* utf8 = str ? PyUnicode_AsUTF8(str.get()) : nullptr;
  std::string text = utf8 == nullptr ? "" : utf8;
  PyErr_Clear();
  return text;
}

std::string Attribute(PyObject* object, const char* name) {
  PyRef value = PyRef::Steal(PyObject_GetAttrString(object, name));
  PyErr_Clear();
  return value && value.get() != Py_None ? Text(value.get()) : "";
}

// One line: blanks and line ends run together.
std::string OneLine(const std::string& text) {
  std::string line;
  for (char c : text) {
    bool blank = c == '\n' || c == '\r' || c == '\t' || c == ' ';
    if (!blank) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  if (line.size() > kLongestCause) line.replace(kLongestCause, line.npos, "...");
  return line;
}

// "file.py:12" of the frame that raised, or an empty string.
std::string Where(PyObject* exception) {
  PyRef traceback = PyRef::Steal(PyException_GetTraceback(exception));
  if (!traceback) return "";
  while (true) {
    PyRef next = PyRef::Steal(PyObject_GetAttrString(traceback.get(), "tb_next"));
    if (!next || next.get() == Py_None) break;
    traceback = std::move(next);
  }
  PyRef frame = PyRef::Steal(PyObject_GetAttrString(traceback.get(), "tb_frame"));
  PyRef code = frame ? PyRef::Steal(PyObject_GetAttrString(frame.get(), "f_code")) : PyRef();
  std::string file = code ? Attribute(code.get(), "co_filename") : "";
  std::string line = Attribute(traceback.get(), "tb_lineno");
  PyErr_Clear();
  return file.empty() || file.front() == '<' ? "" : file + ":" + line;
}

// The exception at the root of `raise ... from ...`: what went wrong first.
PyRef Root(PyObject* exception) {
  PyRef root = PyRef::Share(exception);
  for (int depth = 0; depth < 100; ++depth) {
    PyRef cause = PyRef::Steal(PyException_GetCause(root.get()));
    if (!cause) break;
    root = std::move(cause);
  }
  return root;
}

std::string Describe(PyObject* exception) {
  std::string text = OneLine(Text(exception));
  std::string described = Py_TYPE(exception)->tp_name;
  if (!text.empty()) described += ": " + text;
  std::string where = Where(exception);
  if (!where.empty()) described += " (" + where + ")";
  return described;
}

// True if `name` is `module` or a package above it.
bool IsOrContains(const std::string& name, const std::string& module) {
  return module == name || module.starts_with(name + ".");
}

std::string Executable() { return Text(PySys_GetObject("executable")); }

// From 0 to 1: the longest common subsequence's share of both.
double Likeness(const std::string& a, const std::string& b) {
  std::vector<size_t> common(b.size() + 1);  // Of what of `a` was seen and each beginning of `b`.
  for (const char c : a) {
    size_t diagonal = 0;
    for (size_t i = 1; i <= b.size(); ++i) {
      const size_t above = common[i];
      common[i] = c == b[i - 1] ? diagonal + 1 : std::max(above, common[i - 1]);
      diagonal = above;
    }
  }
  return 2.0 * static_cast<double>(common.back()) / static_cast<double>(a.size() + b.size());
}

// The nearest names that the module does have. Not by difflib, which would have to be imported
// where the program's folder comes first.
std::string CloseNames(const PreloadEntry& entry) {
  constexpr double kEnough = 0.6;
  constexpr size_t kMost = 3;
  if (entry.kind == PreloadEntry::Kind::kImport) return "";
  PyRef module = LoadedModule(entry.module.c_str());
  PyRef names = module ? PyRef::Steal(PyObject_Dir(module.get())) : PyRef();
  std::string close;
  for (const std::string& name : entry.names) {
    if (!names || PyObject_HasAttrString(module.get(), name.c_str())) continue;
    std::vector<std::pair<double, std::string>> nearest;
    for (Py_ssize_t i = 0; i < PyList_Size(names.get()); ++i) {
      const std::string other = Text(PyList_GET_ITEM(names.get(), i));
      const double likeness = Likeness(name, other);
      if (likeness >= kEnough) nearest.emplace_back(-likeness, other);
    }
    std::sort(nearest.begin(), nearest.end());
    if (nearest.size() > kMost) nearest.resize(kMost);
    for (const auto& [_, other] : nearest) close += (close.empty() ? "'" : ", '") + other + "'";
  }
  PyErr_Clear();
  return close;
}

void Explain(PyObject* exception, const PreloadEntry& entry, Failure* failure) {
  const std::string otherwise = ", or mark the entry 'optional'";
  if (PyErr_GivenExceptionMatches(exception, PyExc_ModuleNotFoundError)) {
    std::string name = Attribute(exception, "name");
    failure->missing = IsOrContains(name, entry.module);
    std::string top = name.substr(0, name.find('.'));
    failure->hint = name == top ? "install the package that has '" + top + "' into " +
                                      Text(PySys_GetObject("prefix")) + otherwise
                                : "'" + top + "' is there but has no '" + name +
                                      "': check its version" + otherwise;
    return;
  }
  if (PyErr_GivenExceptionMatches(exception, PyExc_ImportError) &&
      Attribute(exception, "name") == entry.module &&
      OneLine(Text(exception)).starts_with("cannot import name")) {
    failure->missing = true;
    std::string close = CloseNames(entry);
    failure->hint = close.empty() ? "check the name and the package's version" + otherwise
                                  : "did you mean " + close + "?";
    return;
  }
  failure->hint = "see the whole traceback with: " + Executable() + " -c '" + Statement(entry) +
                  "'" + otherwise;
}

}  // namespace

Failure TakeFailure(const PreloadEntry& entry) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  PyRef own_type = PyRef::Steal(type), own_value = PyRef::Steal(value),
        own_traceback = PyRef::Steal(traceback);
  Failure failure;
  failure.interrupted = PyErr_GivenExceptionMatches(value, PyExc_KeyboardInterrupt) != 0;
  PyRef root = Root(value);
  failure.cause = Describe(value);
  if (root.get() != value) failure.cause += "; first: " + Describe(root.get());
  Explain(root.get(), entry, &failure);
  failure.exception = std::move(own_value);
  PyErr_Clear();
  return failure;
}

}  // namespace pylaunch::engine
