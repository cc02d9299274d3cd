#ifndef PYLAUNCH_CACHE_DESCRIPTOR_H_
#define PYLAUNCH_CACHE_DESCRIPTOR_H_

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace pylaunch::cache {

// Owns a file descriptor: closes it at its end. What open(2) gave, -1 included.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { Close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor(Descriptor&& other) noexcept : fd_(other.Release()) {}
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void Close() {
    if (ok()) close(std::exchange(fd_, -1));
  }
  // From here on the caller's.
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// What pipe2(2) gives; both ends or none are ok().
class Pipe {
 public:
  explicit Pipe(int flags) : Pipe(Make(flags)) {}
  Descriptor& reading() { return reading_; }
  Descriptor& writing() { return writing_; }

 private:
  struct Ends {
    int fds[2];
  };
  static Ends Make(int flags) {
    Ends ends;
    return pipe2(ends.fds, flags) == 0 ? ends : Ends{{-1, -1}};
  }
  explicit Pipe(const Ends& ends) : reading_(ends.fds[0]), writing_(ends.fds[1]) {}

  Descriptor reading_, writing_;
};

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_DESCRIPTOR_H_
