#ifndef PYLAUNCH_IMAGE_SYSTEM_CALL_H_
#define PYLAUNCH_IMAGE_SYSTEM_CALL_H_

#include <cstdint>

// The kernel without a C library, for code that runs before one is there, or where none is. x86_64
// only.

namespace pylaunch {

// The kernel's result: negative is -errno. `number` is __NR_... of <asm/unistd.h>.
inline long SystemCall(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0,
                       uint64_t e = 0, uint64_t f = 0) {
  long result;
  register uint64_t r10 asm("r10") = d;
  register uint64_t r8 asm("r8") = e;
  register uint64_t r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

inline uint64_t Address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

}  // namespace pylaunch

#endif  // PYLAUNCH_IMAGE_SYSTEM_CALL_H_
