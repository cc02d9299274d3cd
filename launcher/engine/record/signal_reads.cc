#include "launcher/engine/record/signal_reads.h"

#include <Python.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "launcher/contract/handoff.h"
#include "launcher/engine/base/own_modules.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/wrap.h"
#include "launcher/engine/libc/signal_calls.h"
#include "launcher/engine/record/file_record.h"

namespace pylaunch::engine {
namespace {

using Action = struct sigaction;

// sigaction(2) and _signal.getsignal call us with nothing of ours.
constinit struct {
  pid_t process = 0;
  sigset_t ignored_at_start = {};
  Action first[NSIG] = {};  // When recording began.
  std::atomic<bool> recording = false;
  std::atomic<uint64_t> asked = 0;  // The bit n - 1 for signal n.
  Diverted get_signal;
} g;

bool IsSignal(long number) { return number > 0 && number < NSIG; }

bool Get(int number, Action* action) { return sigaction(number, nullptr, action) == 0; }

// CPython ignores them in any case (signal_install_handlers).
bool IsAlwaysIgnored(int number) { return number == SIGPIPE || number == SIGXFSZ; }

// Whether that is what CPython's start leaves.
bool IsOfStart(int number, const Action& action) {
  const bool ignored = sigismember(&g.ignored_at_start, number) == 1;
  if (ignored || IsAlwaysIgnored(number)) return action.sa_handler == SIG_IGN;
  if (number == SIGINT) return action.sa_handler != SIG_IGN && action.sa_handler != SIG_DFL;
  return action.sa_handler == SIG_DFL;
}

void Ask(int number) {
  if (IsSignal(number)) g.asked |= uint64_t{1} << (number - 1);
}

void OnSignalCall(int number) {
  if (g.recording && getpid() == g.process) Ask(number);
}

// Reads a table of CPython's own, and makes no system call.
PyObject* GetSignal(PyObject* self, PyObject* number) {
  if (g.recording && PyLong_Check(number)) {
    const long signal = PyLong_AsLong(number);
    if (IsSignal(signal)) Ask(static_cast<int>(signal));
    PyErr_Clear();
  }
  return g.get_signal.Call(self, number);
}

}  // namespace

sigset_t IgnoredSignals() {
  sigset_t ignored;
  sigemptyset(&ignored);
  for (int number = 1; number < NSIG; ++number) {
    Action action;
    if (Get(number, &action) && action.sa_handler == SIG_IGN) sigaddset(&ignored, number);
  }
  return ignored;
}

void NoteSignalsAtStart() {
  g.process = getpid();
  g.ignored_at_start = IgnoredSignals();
}

void StartSignalReads() {
  if (g.recording) return;
  for (int number = 1; number < NSIG; ++number) {
    if (Get(number, &g.first[number]) && !IsOfStart(number, g.first[number])) Ask(number);
  }
  PyRef signal = BuiltinModule("_signal");
  if (!signal || !g.get_signal.Install(signal.get(), "getsignal", GetSignal)) g.asked = ~uint64_t{};
  PyErr_Clear();
  g.recording = true;
  ListenToSignalCalls(OnSignalCall);
}

void StopSignalReads() {
  if (!g.recording.exchange(false)) return;
  ListenToSignalCalls(nullptr);
  for (int number = 1; number < NSIG; ++number) {
    Action now;
    const Action& first = g.first[number];
    if (!Get(number, &now)) continue;
    if (now.sa_handler != first.sa_handler || now.sa_flags != first.sa_flags) Ask(number);
    const bool asked = (g.asked >> (number - 1) & 1) != 0;
    if (asked) NoteQuestionOfStart(IgnoredFact(number).c_str());
  }
  g.get_signal.Remove();
}

bool IsIgnoredOtherwise(int number, const sigset_t& then, const sigset_t& now) {
  return sigismember(&then, number) != sigismember(&now, number) && !IsAlwaysIgnored(number);
}

bool CatchUpOnSignals(const sigset_t& then, const sigset_t& now) {
  PyRef signal;
  for (int number = 1; number < NSIG; ++number) {
    if (!IsIgnoredOtherwise(number, then, now)) continue;
    if (!signal) signal = BuiltinModule("_signal");
    const char* name = sigismember(&now, number) == 1 ? "SIG_IGN"
                       : number == SIGINT             ? "default_int_handler"
                                                      : "SIG_DFL";
    PyRef handler = signal ? PyRef::Steal(PyObject_GetAttrString(signal.get(), name)) : PyRef();
    if (!handler ||
        !PyRef::Steal(PyObject_CallMethod(signal.get(), "signal", "iO", number, handler.get()))) {
      return false;
    }
  }
  return true;
}

}  // namespace pylaunch::engine
