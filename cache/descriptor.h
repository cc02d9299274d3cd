#ifndef PYLAUNCH_CACHE_DESCRIPTOR_H_
#define PYLAUNCH_CACHE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace pylaunch::cache {

// Owns a file descriptor: closes it at its end. What open(2) gave, -1 included.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { Close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void Close() {
    if (ok()) close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_DESCRIPTOR_H_
