#ifndef PYLAUNCH_IMAGE_PARALLEL_H_
#define PYLAUNCH_IMAGE_PARALLEL_H_

#include <cstddef>
#include <functional>

namespace pylaunch::image {

// Calls `work` with each number below `count`, until one call returns false; on this thread and
// others, `threads` of them in all at first. Where a call takes long, as on a network's file
// system, more join in: most of them wait. Returns when all calls have returned. With one thread
// where there may be no more (RLIMIT_NPROC). The others have descriptors of their own, and none of
// them moves this process to another processor.
void InParallel(size_t count, size_t threads, const std::function<bool(size_t)>& work);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_PARALLEL_H_
