#include "launcher/engine/record/entry_watch.h"

#include <algorithm>
#include <map>

#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/record/output_record.h"

namespace pylaunch::engine {
namespace {

using Words = std::vector<std::string>;

void Add(const std::string& text, Words* words) {
  if (std::find(words->begin(), words->end(), text) == words->end()) words->push_back(text);
}

std::string Joined(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : "; ") + word;
  return text;
}

// Of the module's source or extension; empty: it has none.
std::string FileOf(PyObject* module) {
  std::string path;
  if (!PyModule_Check(module)) return path;
  PyObject* spec = PyDict_GetItemString(PyModule_GetDict(module), "__spec__");
  PyRef origin = spec == nullptr ? PyRef() : PyRef::Steal(PyObject_GetAttrString(spec, "origin"));
  PyErr_Clear();
  if (!origin || !FileSystemBytes(origin.get(), &path) || path[0] != '/') path.clear();
  PyErr_Clear();
  return path;
}

int AddText(PyObject* object, void* all) {
  std::string& text = *static_cast<std::string*>(all);
  if (PyBytes_Check(object)) {
    text.append(PyBytes_AS_STRING(object), static_cast<size_t>(PyBytes_GET_SIZE(object)));
  } else if (PyUnicode_Check(object) && PyUnicode_IS_COMPACT_ASCII(object)) {
    text.append(reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(object)),
                static_cast<size_t>(PyUnicode_GET_LENGTH(object)));
  } else if (PyList_CheckExact(object)) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); ++i) {
      AddText(PyList_GET_ITEM(object, i), all);
    }
  }
  return 0;
}

// What sys.stdout has not written out: one of the objects that it refers to, or some in a list
// (Modules/_io/textio.c, `pending_bytes`). All else of it that is text stays as it is.
std::string PendingText() {
  std::string text;
  PyObject* out = PySys_GetObject("stdout");
  const traverseproc traverse = out == nullptr ? nullptr : Py_TYPE(out)->tp_traverse;
  if (traverse != nullptr) traverse(out, AddText, &text);
  return text;
}

}  // namespace

void EntryWatch::Before(size_t entry) {
  const ProcessState* earlier = steps_.empty() ? nullptr : &steps_.back().state;
  NotePendingOutput(PendingText());
  steps_.push_back({entry, ProcessState::Now(earlier), Threads(),
                    PyDict_GET_SIZE(PyImport_GetModuleDict()), OutputMark()});
}

template <typename There>
size_t EntryWatch::Since(const There& there) const {
  size_t step = steps_.size();
  while (step > 0 && there(steps_[step - 1])) --step;
  return step;
}

std::vector<image::FileProof> EntryWatch::FilesBefore(size_t step) const {
  std::vector<image::FileProof> files;
  PyObject *name, *module;
  Py_ssize_t at = 0;
  for (Py_ssize_t i = 0; i < steps_[step].modules; ++i) {  // New ones come last.
    if (!PyDict_Next(PyImport_GetModuleDict(), &at, &name, &module)) break;
    const std::string path = i < steps_[step - 1].modules ? "" : FileOf(module);
    if (!path.empty()) files.push_back({path, image::StateOf(path)});
  }
  return files;
}

bool EntryWatch::HasPrinted(size_t step) const {
  return steps_[step].output != steps_[step - 1].output;
}

EntryWatch::Blame EntryWatch::Judge(const std::vector<ProcessState::Part>& parts,
                                    const std::vector<image::Thread>& threads) const {
  std::map<size_t, Words> by_step;
  size_t thread_step = 0;  // The first whose entry left a thread.
  for (const image::Thread& thread : threads) {
    const size_t step = Since([&](const Step& s) { return s.threads.count(thread.id) != 0; });
    Add("left a thread: " + thread.name, &by_step[step]);
    const bool first = thread_step == 0 || step < thread_step;
    if (step > 0 && step < steps_.size() && first) thread_step = step;
  }
  for (const ProcessState::Part& part : parts) {
    size_t step = Since([&](const Step& s) { return s.state.Has(part); });
    // Memory that was there before: some entry has asked the kernel for something, nobody knows
    // which.
    if (part.address != 0 && step == 0) step = steps_.size();
    Add(part.words, &by_step[step]);
  }
  Blame blame;
  if (by_step.count(0) != 0) {
    blame.nobody = "site or what it imports " + Joined(by_step[0]);
    return blame;
  }
  if (const auto after = by_step.find(steps_.size()); after != by_step.end()) {
    const Words words = std::move(after->second);
    by_step.erase(after);
    if (thread_step == 0) {
      blame.nobody = "preloading " + Joined(words);
      return blame;
    }
    for (const std::string& text : words) Add(text, &by_step[thread_step]);
  }
  // Late entries come after the others: then so does what was printed behind them.
  bool late_printed = false;
  for (size_t step = 1; step < steps_.size(); ++step) {
    if (!HasPrinted(step)) continue;
    if (late_printed && by_step.count(step) == 0) {
      Add("prints after a late entry that prints", &by_step[step]);
    }
    late_printed = late_printed || by_step.count(step) != 0;
  }
  for (const auto& [step, words] : by_step) {
    blame.entries.push_back({steps_[step - 1].entry, Joined(words), FilesBefore(step)});
  }
  return blame;
}

}  // namespace pylaunch::engine
