#ifndef PYLAUNCH_IMAGE_KERNEL_FILES_H_
#define PYLAUNCH_IMAGE_KERNEL_FILES_H_

#include <optional>
#include <string>
#include <string_view>

#include "image/facts.h"

// Files that the kernel makes up. Their stamps prove nothing: kernfs leaves them as they were when
// a limit of a control group is changed, procfs has new ones for every inode that it forgets. Their
// facts are called kKernelFile and a path.

namespace pylaunch::image {

// True for a path under /proc or /sys.
bool IsKernelFile(std::string_view path);

// What is so at `path` now: what is in a file that only somebody's decision changes (a setting of
// the kernel, a limit of a control group, which control group this is); of any other only whether
// it is there. Nothing for what is a process's own (proc(5)), and where `path` is not under /proc
// or /sys.
std::optional<Fact> KernelFileFact(std::string_view path);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_KERNEL_FILES_H_
