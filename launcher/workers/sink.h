#ifndef PYLAUNCH_LAUNCHER_WORKERS_SINK_H_
#define PYLAUNCH_LAUNCHER_WORKERS_SINK_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "cache/descriptor.h"

namespace pylaunch {

// A standard stream of ours that many write to: what it does not take at once is kept, and writing
// never waits, so that whoever stops reading us does not stop us from minding signals. Bytes leave
// in the order in which they came.
class Sink {
 public:
  // Above this many bytes nobody should add more.
  static constexpr size_t kFull = 256 << 10;

  // `fd` stays the caller's.
  explicit Sink(int fd);
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;

  // What is to be polled for writing while there is something to write. Regular files always are
  // ready (poll(2)), so they never have anything left.
  int fd() const { return own_.ok() ? own_.get() : given_; }
  void Append(std::string_view bytes) { waiting_.append(bytes); }
  bool empty() const { return waiting_.size() == written_; }
  bool full() const { return waiting_.size() - written_ >= kFull; }
  // Writes as much as it takes without waiting. Where nobody can ever read it any more (EPIPE, a
  // full disk), it is dropped, and so is what comes later.
  void Write();

 private:
  // As write(2), which would wait, with EAGAIN instead.
  ssize_t TryWrite(std::string_view bytes) const;

  int given_;
  // The same stream opened anew, where that is possible: whether writing waits is a matter of the
  // open file (fcntl(2), O_NONBLOCK), which we share with who started us.
  cache::Descriptor own_;
  bool is_file_ = false;
  bool dead_ = false;
  std::string waiting_;
  size_t written_ = 0;
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_SINK_H_
