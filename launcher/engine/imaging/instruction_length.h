#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_INSTRUCTION_LENGTH_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_INSTRUCTION_LENGTH_H_

#include <cstddef>
#include <cstdint>

namespace pylaunch::engine {

// How many bytes the instruction at `code` has, in 64-bit mode; 0: it is not one that is known here
// (3DNow!, REX2, and what ends a program), or does not end before `end`. Intel's Software
// Developer's Manual, volume 2, chapter 2 and appendix A; for XOP, AMD's Architecture Programmer's
// Manual, volume 4.
size_t InstructionLength(const uint8_t* code, const uint8_t* end);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_INSTRUCTION_LENGTH_H_
