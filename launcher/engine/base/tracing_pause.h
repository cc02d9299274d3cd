#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_TRACING_PAUSE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_TRACING_PAUSE_H_

#include <Python.h>

namespace pylaunch::engine {

// While it lives, functions that were given to sys.settrace, sys.setprofile or sys.monitoring do
// not see what this thread runs: it is ours, and not the program's. Needs the GIL.
class TracingPause {
 public:
  TracingPause();
  ~TracingPause();
  TracingPause(const TracingPause&) = delete;
  TracingPause& operator=(const TracingPause&) = delete;

 private:
  PyThreadState* const thread_ = PyThreadState_Get();
};

#if PY_VERSION_HEX >= 0x030B0000
inline TracingPause::TracingPause() { PyThreadState_EnterTracing(thread_); }
inline TracingPause::~TracingPause() { PyThreadState_LeaveTracing(thread_); }
#else
// As call_trace does around a tracing function (Python/ceval.c).
inline TracingPause::TracingPause() {
  ++thread_->tracing;
  thread_->cframe->use_tracing = 0;
}
inline TracingPause::~TracingPause() {
  --thread_->tracing;
  thread_->cframe->use_tracing =
      thread_->c_tracefunc != nullptr || thread_->c_profilefunc != nullptr;
}
#endif

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_TRACING_PAUSE_H_
