#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_INTERPRETER_OBJECT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_INTERPRETER_OBJECT_H_

namespace pylaunch::engine {

// True for an address in the code or data of the object that holds CPython: libpython, or an
// executable linked with it. Asks the dynamic loader once, and then nobody. Any thread.
bool IsInterpreters(const void* address);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_INTERPRETER_OBJECT_H_
