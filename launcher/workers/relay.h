#ifndef PYLAUNCH_LAUNCHER_WORKERS_RELAY_H_
#define PYLAUNCH_LAUNCHER_WORKERS_RELAY_H_

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>

#include "launcher/workers/sink.h"

namespace pylaunch {

// Brings the lines of many streams to one sink. A line, or a piece of one that a carriage return
// ends (progress bars), is never parted by another stream's bytes; within a stream, all bytes
// arrive, in their order, with the stream's prefix before each piece. A piece that is longer than
// kHeld has the sink for itself from there on until it ends, and the others wait.
class Relay {
 public:
  static constexpr size_t kHeld = 64 << 10;

  // What one worker writes to one of its standard streams.
  class Stream {
   public:
    Stream(Relay* relay, std::string prefix) : relay_(relay), prefix_(std::move(prefix)) {}
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    void Take(std::string_view bytes);
    // The end of the stream: a last line without an end gets one.
    void End();
    // False: nothing more should be read for it now.
    bool wants_more() const { return held_.size() < kHeld && !relay_->sink_.full(); }
    bool idle() const { return held_.empty(); }

   private:
    friend class Relay;
    void Flush();
    void PassOn(std::string_view pieces);

    Relay* relay_;
    std::string prefix_;
    std::string held_;      // The beginning of a line, or what waits for another stream's line.
    bool waiting_ = false;  // Stands in relay_->waiting_.
  };

  explicit Relay(int fd) : sink_(fd) {}
  Sink& sink() { return sink_; }
  // True if streams wait for another one's long piece to end.
  bool is_held_up() const { return owner_ != nullptr && !waiting_.empty(); }
  // Grows as that piece does.
  size_t progress() const { return progress_; }
  // Ends that piece here, for a worker that has stopped in the midst of it.
  void Interrupt();

 private:
  // The stream that was in the midst of a line is done with it.
  void Release();
  void Queue(Stream* stream);

  Sink sink_;
  Stream* owner_ = nullptr;
  size_t progress_ = 0;
  std::deque<Stream*> waiting_;
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_WORKERS_RELAY_H_
