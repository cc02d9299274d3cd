#include "cache/paged_bytes.h"

#include <algorithm>

namespace pylaunch::cache {

PagedBytes::PagedBytes(const MappedFile* file, uint64_t start)
    : file_(file),
      start_(start),
      size_(file->size() - start),
      bytes_(new char[size_]),
      here_((size_ + kPiece - 1) / kPiece) {}

const char* PagedBytes::Get(uint64_t offset, uint64_t size) {
  offset -= start_;
  const uint64_t end = offset + size;
  for (uint64_t piece = offset / kPiece; piece * kPiece < end; ++piece) {
    if (here_[piece]) continue;
    const uint64_t at = piece * kPiece;
    const size_t n = static_cast<size_t>(std::min(kPiece, size_ - at));
    if (!file_->Read(start_ + at, n, &bytes_[at])) return nullptr;
    here_[piece] = true;
  }
  return &bytes_[offset];
}

}  // namespace pylaunch::cache
