#ifndef PYLAUNCH_CACHE_ERROR_H_
#define PYLAUNCH_CACHE_ERROR_H_

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace pylaunch::cache {

// What went wrong, as far as a caller must tell cases apart. kNotFound is ordinary (no archive
// yet); kForeign means another build or format wrote the file; kUntrusted means another user could
// have written it; kCorrupt means truncated or damaged; kBusy means another process holds the
// writer's lock; kIo is any other failure of the operating system.
enum class ErrorCode { kNotFound, kForeign, kUntrusted, kCorrupt, kBusy, kIo };

struct Error {
  ErrorCode code;
  std::string message;  // One line, no trailing newline; names the path.
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> MakeError(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_ERROR_H_
