#ifndef PYLAUNCH_CACHE_GUARDED_COPY_H_
#define PYLAUNCH_CACHE_GUARDED_COPY_H_

#include <cstddef>

namespace pylaunch::cache {

// Copies `size` bytes out of a mapped file. False if the file has become shorter than that under
// the mapping, or the disk fails: what would otherwise kill the process by SIGBUS (mmap(2)); `out`
// then holds nothing of use. The program's own handling of SIGBUS is put aside only while this
// runs, and still gets every SIGBUS that is not about these bytes.
bool GuardedCopy(const char* from, size_t size, char* out);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_GUARDED_COPY_H_
