#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGE_EXIT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGE_EXIT_H_

namespace pylaunch::engine {

// How a process with frozen, preloaded objects ends. CPython takes every module apart, which for
// big ones takes a second and copies every page of the image. That is of use only to objects that
// do something when they go; so at exit, after threads were joined and atexit functions have run:
//
// - if the program leaves nothing but objects whose end nobody can notice, the finalizers of
// preloaded
//   objects run, the preloaded modules are forgotten as they are, and CPython takes apart the rest;
// - else the preloaded objects are thawed, and CPython does what it always does.

// Call after the interpreter is started, before preloading: our atexit function must run last.
// Without an effect if someone was faster.
void WatchExit();

// In the capturing process: freezes what there is, unless WatchExit had none. Needs the GIL.
void FreezePreloaded();

// In a restored process, before the program: what resuming has made is not the program's either.
void FreezeResumed();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGE_EXIT_H_
