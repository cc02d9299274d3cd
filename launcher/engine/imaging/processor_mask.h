#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_PROCESSOR_MASK_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_PROCESSOR_MASK_H_

#include <string>

#include "image/baseline.h"

namespace pylaunch::engine {

// For an image that is to hold for all processors of a level (image/baseline.h): while it lasts,
// code that asks the processor for its features (cpuid, xgetbv) is told those of the level.
//
// Some processors let the kernel do that (arch_prctl(2), ARCH_SET_CPUID), most do not. So the two
// instructions are found in each library as it is loaded, before any of its code runs, and replaced
// by int3, whose signal handler answers. Their bytes may be parts of other instructions as well:
// they are told apart by decoding their function from its beginning, which the tables for
// exceptions tell (.eh_frame_hdr). Assembler code may have no such tables, and tables of its own
// among it. There a lone cpuid is left alone: it can tell of caches and vendors, and of features
// that need no xgetbv. Beside an xgetbv it is replaced, if decoding from nearly all bytes before
// comes to it. What cannot be told forbids the image, as does a library that was there before, but
// for Python itself, which asks when its modules are imported.
//
// When a library has been mapped, the dynamic loader calls a function that does nothing, for
// debuggers (_dl_debug_state, which r_debug names): that has an int3, too. From glibc 2.41 on it is
// called after relocations, when resolvers of indirect functions have run: there is no image where
// a library asks then. The C library has its own way (TunablesFor).
//
// From the time when the interpreter is there (CPython looks at all signals when it starts) to the
// end of preloading. Children by fork(2) are told the same until they execute something.
void MaskProcessor(image::CpuLevel level);

// Puts all back as it was, whatever happened. Returns why there can be no image, in words, or an
// empty string; likewise where MaskProcessor was not called.
std::string UnmaskProcessor();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_PROCESSOR_MASK_H_
