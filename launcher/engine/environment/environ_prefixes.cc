#include "launcher/engine/environment/environ_prefixes.h"

#include <Python.h>

#include <algorithm>
#include <cstdio>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache/file_env.h"
#include "launcher/engine/base/known_functions.h"
#include "launcher/engine/base/py_ref.h"

namespace pylaunch::engine {
namespace {

constexpr size_t kMaxSource = size_t{16} << 20;

constexpr char kList[] = {
#include "environ_prefixes.inc"
};

// A frame and what is asked of it.
struct Frame {
  PyRef frame, code, globals;

  explicit Frame(PyRef f) : frame(std::move(f)) {
    code = Attribute("f_code");
    globals = Attribute("f_globals");
  }
  PyRef Attribute(const char* name) const {
    PyRef value = PyRef::Steal(PyObject_GetAttrString(frame.get(), name));
    PyErr_Clear();
    return value;
  }
  PyRef Back() const {
    PyRef back = Attribute("f_back");
    return back && back.get() != Py_None ? std::move(back) : PyRef();
  }
  std::string Module() const {
    PyObject* name = globals && PyDict_Check(globals.get())
                         ? PyDict_GetItemString(globals.get(), "__name__")
                         : nullptr;
    const char* text = name != nullptr && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : nullptr;
    PyErr_Clear();
    return text == nullptr ? "" : text;
  }
  std::string Text(const char* attribute) const {
    PyRef value = PyRef::Steal(PyObject_GetAttrString(code.get(), attribute));
    const char* text =
        value && PyUnicode_Check(value.get()) ? PyUnicode_AsUTF8(value.get()) : nullptr;
    PyErr_Clear();
    return text == nullptr ? "" : text;
  }
};

// What the code of a frame that reads is known to use.
struct Verdict {
  std::string prefix;  // As in the list; empty: unknown.
  std::string place;
};

uint64_t DigestOf(const KnownFunction& function, const std::string& path) {
  const auto source = cache::PosixFileEnv().ReadFile(path, kMaxSource);
  return source ? SourceDigest(function, *source) : 0;
}

// `reader` or, where that is a comprehension or an inner function, what it runs in.
Verdict Judge(const Frame& reader) {
  const std::string module = reader.Module(), path = reader.Text("co_filename");
  PyRef line = reader.Attribute("f_lineno");
  Verdict verdict{"", path + ":" + std::to_string(line ? PyLong_AsLong(line.get()) : 0)};
  PyErr_Clear();
  static const std::vector<KnownFunction> known = ParseKnownFunctions(kList);
  for (const KnownFunction& function : known) {
    if (function.module != module) continue;
    for (PyRef at = PyRef::Share(reader.frame.get()); at;) {
      const Frame frame(std::move(at));
      if (frame.globals.get() != reader.globals.get()) break;
      if (frame.Text("co_name") == function.name) {
        const uint64_t digest = DigestOf(function, path);
        const auto& sources = function.sources;
        if (std::find(sources.begin(), sources.end(), digest) != sources.end()) {
          verdict.prefix = function.prefix;
        }
        char text[64];
        std::snprintf(text, sizeof text, ", in a source of digest %016llx",
                      static_cast<unsigned long long>(digest));
        verdict.place += text;
        return verdict;
      }
      at = frame.Back();
    }
  }
  return verdict;
}

bool IsOfTheMapping(const std::string& module) {
  return module == "os" || module == "_collections_abc" || module == "collections.abc";
}

// The value of what stands for a prefix in the list, where `reader` runs.
std::string Prefix(const std::string& listed, const Frame& reader) {
  if (listed.size() >= 2 && listed.front() == '"') return listed.substr(1, listed.size() - 2);
  PyRef locals = reader.Attribute("f_locals");
  PyRef value =
      locals ? PyRef::Steal(PyMapping_GetItemString(locals.get(), listed.c_str())) : PyRef();
  const char* text =
      value && PyUnicode_Check(value.get()) ? PyUnicode_AsUTF8(value.get()) : nullptr;
  PyErr_Clear();
  return text == nullptr ? "" : text;
}

}  // namespace

EnvironReader FindEnvironReader() {
  // Static: hooks of os.environ ask with nothing of ours, often about the same code. The code
  // objects are kept, so that their addresses stay theirs.
  static auto* verdicts = new std::unordered_map<PyObject*, std::pair<PyRef, Verdict>>();
  PyRef at = PyRef::Share(reinterpret_cast<PyObject*>(PyEval_GetFrame()));
  while (at) {
    const Frame frame(std::move(at));
    if (!IsOfTheMapping(frame.Module())) {
      auto place = verdicts->find(frame.code.get());
      if (place == verdicts->end()) {
        auto value = std::make_pair(PyRef::Share(frame.code.get()), Judge(frame));
        place = verdicts->emplace(frame.code.get(), std::move(value)).first;
      }
      const Verdict& verdict = place->second.second;
      EnvironReader reader{"", verdict.place};
      if (!verdict.prefix.empty()) reader.prefix = Prefix(verdict.prefix, frame);
      return reader;
    }
    at = frame.Back();
  }
  return {"", "C code"};
}

}  // namespace pylaunch::engine
