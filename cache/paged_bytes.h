#ifndef PYLAUNCH_CACHE_PAGED_BYTES_H_
#define PYLAUNCH_CACHE_PAGED_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/file_env.h"

namespace pylaunch::cache {

// The end of a mapped file in private memory, copied piece by piece when it is first asked for. So
// what was checked once stays as it was, whatever becomes of the file, and a program that needs
// twenty modules of five thousand copies little. One call at a time.
class PagedBytes {
 public:
  PagedBytes() = default;
  // [start, file->size()) of `file`, which must outlive this. REQUIRES: start <= file->size().
  PagedBytes(const MappedFile* file, uint64_t start);

  // Where [offset, offset + size) of the file lies, as long as this lives; nullptr: it could not be
  // read. REQUIRES: within the part that this holds.
  const char* Get(uint64_t offset, uint64_t size);

 private:
  static constexpr uint64_t kPiece = 16 * 1024;

  const MappedFile* file_ = nullptr;
  uint64_t start_ = 0;
  uint64_t size_ = 0;
  std::unique_ptr<char[]> bytes_;  // Not touched before it is needed.
  std::vector<bool> here_;         // By piece.
};

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_PAGED_BYTES_H_
