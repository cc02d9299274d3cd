#ifndef PYLAUNCH_IMAGE_CAPTURE_H_
#define PYLAUNCH_IMAGE_CAPTURE_H_

#include <signal.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "image/format.h"

// Makes an image of this process in a forked child, while this process goes on. Order of things:
// docs/image-design.md.

namespace pylaunch::image {

// Call once, before any library has registered fork handlers of its own: those registered first run
// last before a fork (pthread_atfork(3)), so that this one sees which threads the others left.
// Notes the signal mask, too: restored processes get theirs with what has changed in it since.
void WatchForks();

// Of address space that a capturing process maps, most of which it never touches.
inline constexpr uint64_t kScratchSize = uint64_t{256} << 20;

struct CaptureRequest {
  std::string path;  // Where the pages are to be written; the file must not exist.
  // The capturing process is waited for. Otherwise it is a grandchild that the program cannot see.
  bool wait = false;
  // Variables whose values the image may hold although their names say that they are secret.
  std::vector<std::string> allowed_secrets;
  // Times that this process was told (clock_search.h). They are copied before `prepare` is called,
  // which may take them away, so that they are not found themselves.
  std::span<const int64_t> times_ns;
  // A descriptor that stays open in the capturing process, for who waits for that, until it ends or
  // `finish` closes it; all others are closed. -1: none does.
  int kept = -1;
  // What is written goes to the disk at once and is not kept in memory (room.h).
  bool tight = false;
  // Nothing is captured: only threads are looked for.
  bool threads_only = false;
  // Called now and then while it is waited for; may be empty.
  std::function<void()> waiting;
  // Called first in the capturing process, before there is a file. Need not return.
  std::function<void()> begin;
  // Called in the capturing process before any page is written: last preparations; what must not be
  // in the image goes. Returns why there can be none, or an empty string.
  std::function<std::string()> prepare;
  // Called in a restored process before anything else; may be null. The dynamic loader cannot bind
  // a function late yet.
  void (*restored)() = nullptr;
  // Called in the capturing process when the image is whole (`refusal` empty) or none could be
  // made; `files` are those that the image refers to, `times` how many of `times_ns` it holds that
  // cannot be moved (clock_search.h). It ends with this call.
  std::function<void(const std::string& refusal, const std::vector<std::string>& files,
                     size_t times)>
      finish;
};

struct Thread {
  int id = 0;
  std::string name;
};

struct CaptureResult {
  // Null in the process that goes on; in a restored one, its arguments.
  const Restored* restored = nullptr;
  // Why there will be no image; one line. Empty: it is being made, or is made (`wait`).
  std::string refusal;
  // Those that all fork handlers have left alive and that nobody vouches for; with any, there will
  // be no image.
  std::vector<Thread> threads;
};

// REQUIRES: WatchForks was called, RunOnOwnStack runs this thread, and what Python wants done
// before a fork is done (PyOS_BeforeFork). Returns once in this process and once in each restored
// one, where what a fork's child must do is left to the caller; signal handlers, environment, rseq,
// too.
CaptureResult Capture(const CaptureRequest& request);

// In a restored process: the signal mask that its starter left it.
const sigset_t& InheritedMask();

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_CAPTURE_H_
