#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_FINALIZE_SHORTCUT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_FINALIZE_SHORTCUT_H_

namespace pylaunch::engine {

// The last part of Py_FinalizeEx, when nothing of the program is left, runs through every interned
// string and type there is. In a process restored from an image that copies thousands of pages.
// These let it return before that part; its caller (Py_RunMain, or Py_Exit) goes on as ever.

// Finds where CPython keeps the functions given to Py_AtExit
// (_PyRuntime's exitfuncs), which that part ends with and which therefore run before the return.
// Before the program, with the GIL.
void PrepareReturnFromFinalize();

// From within Py_FinalizeEx, in a call of CPython's back to us: runs those functions and makes
// Py_FinalizeEx return 0 ("all flushed"). Comes back only where the stack is not as expected
// (another function has swallowed Py_FinalizeEx, a shadow stack). Nothing on the stack between here
// and there may need a destructor.
void ReturnFromFinalize();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_FINALIZE_SHORTCUT_H_
