#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_LIBC_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_LIBC_CALLS_H_

#include <dlfcn.h>

#include <atomic>

// What all of this room is made with: the engine stands before the C library in the dynamic
// loader's order, so calls of the functions that exports.map names come to it first, except the C
// library's own. Each file has some of them, passes them on, and tells those who listen. Listeners
// are functions that a higher room sets; null: nobody. They may be called on any thread, with or
// without the GIL, from constructors of libraries on, and may not throw.

extern "C" const char __ehdr_start[];  // The linker's: where the engine begins and ends.
extern "C" const char _end[];

namespace pylaunch::engine {

// True if the engine itself calls, `caller` being __builtin_return_address(0).
inline bool IsOurs(const void* caller) { return caller >= __ehdr_start && caller < _end; }

// The C library's own function of a name, or what another library puts before it. Constant
// initialised, as calls come before any constructor of ours has run. Any thread.
template <typename Function>
class LibcFunction {
 public:
  constexpr explicit LibcFunction(const char* name) : name_(name) {}

  // Looks it up at the first call. By dlsym(3), which neither a signal handler may call nor a child
  // of vfork(2): a function that is called there is looked up by a constructor.
  Function Get() {
    Function known = Known();
    return known != nullptr ? known : Find();
  }
  // Likewise, for what a C library that we run on may lack: null, and then not looked up again.
  Function GetIfAny() {
    if (absent_.load(std::memory_order_relaxed)) return nullptr;
    Function known = Get();
    if (known == nullptr) absent_.store(true, std::memory_order_relaxed);
    return known;
  }
  // Null: not looked up yet.
  Function Known() const { return function_.load(std::memory_order_relaxed); }
  Function Find() {
    Function found = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name_));
    function_.store(found, std::memory_order_relaxed);
    return found;
  }

 private:
  const char* const name_;
  std::atomic<Function> function_ = nullptr;
  std::atomic<bool> absent_ = false;
};

}  // namespace pylaunch::engine

// Declares `libc`, the C library's `name`, in the engine's function of that name. `Function`, its
// type, is declared there. Static: looked up once, by whoever calls first.
#define PYLAUNCH_LIBC(name) static constinit pylaunch::engine::LibcFunction<Function> libc(#name);

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_LIBC_CALLS_H_
