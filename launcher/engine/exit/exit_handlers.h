#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_HANDLERS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_HANDLERS_H_

#include <string>

namespace pylaunch::engine {

// What exit(3) runs: destructors of C++ objects with static storage, registered by __cxa_atexit
// (Itanium C++ ABI, 3.3.6.3), and C's atexit(3) functions. In a process restored from an image
// those of big libraries cost more than the program: they take apart what only the image's file
// holds, and every page of it is copied first. Those that are known to free memory and nothing else
// are left out; the list of such libraries is data (launcher/python/resume/quiet_libraries.txt).
// Where the rest is known too (library_ends.h), we go through it ourselves instead of the C
// library, whose lists lie on hundreds of pages.

// From now on remembers what is registered. Before Python starts, on the main thread.
void RecordExitHandlers();
// Of what is registered by now, that of libraries for which `folder`/quiet_libraries.txt vouches
// (known_list.h) is quiet. In the capturing process. Without a readable file none is.
void MarkQuietLibraries(const std::string& folder);
// The process is about to exit with Python gone: leaves out what is quiet, unless there is another
// thread, which may be using it. dlclose(3) still runs them.
void LeaveOutQuietHandlers();
// `function` is called when all that had to run has, or where the C library runs it, before that.
// Not in a process with other threads.
void CallAtTheEnd(void (*function)());

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_HANDLERS_H_
