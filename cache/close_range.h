#ifndef PYLAUNCH_CACHE_CLOSE_RANGE_H_
#define PYLAUNCH_CACHE_CLOSE_RANGE_H_

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

namespace pylaunch::cache {

// Closes every descriptor from `first` to `last`. As close_range(2), also on kernels before 5.9,
// which have no such call; RHEL 8 has one of these. Allocates nothing.
inline void CloseRange(unsigned first, unsigned last) {
  if (close_range(first, last, 0) == 0) return;
  constexpr rlim_t kMost = 65536;  // Who has raised his limit to a billion has not used it up.
  rlimit limit = {kMost, kMost};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t end = std::min({limit.rlim_cur, kMost, rlim_t{last} + 1});
  for (rlim_t fd = first; fd < end; ++fd) close(static_cast<int>(fd));
}

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_CLOSE_RANGE_H_
