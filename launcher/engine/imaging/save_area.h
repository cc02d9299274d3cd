#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_SAVE_AREA_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_SAVE_AREA_H_

#include <cstdint>
#include <vector>

namespace pylaunch::engine {

// When a function is called that is bound late, the dynamic loader saves the extended state of the
// processor on the stack. How much room that takes, it has found out when its process started
// (glibc's sysdeps/x86_64/dl-trampoline.h, xsave_state_size). A processor with more state, AVX-512
// say, would write over what lies above. So a process that is restored there tells the loader anew.
class SaveArea {
 public:
  // Of this process's dynamic loader. Looks for the instruction that makes room,
  // `sub xsave_state_size(%rip), %rsp`.
  static SaveArea Now();
  // False: nothing is known of it, so processors must have the same state.
  bool known() const { return known_; }
  // In a restored process, first of all: calls nothing that could be bound late. Makes the area
  // larger if this processor has state that the image's had not. A few nanoseconds if not.
  void Renew() const;

  // How much room the parts of `state`, a value of XCR0, take on this processor.
  static uint64_t RoomFor(uint64_t state);

 private:
  struct Size {
    uint64_t* at;
    bool readonly;  // In memory that the loader has made so (RELRO).
  };
  bool known_ = false;
  uint64_t state_ = 0;  // XCR0; 0: there is none.
  std::vector<Size> sizes_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_SAVE_AREA_H_
