#ifndef PYLAUNCH_IMAGE_VDSO_H_
#define PYLAUNCH_IMAGE_VDSO_H_

#include <cstdint>

// The functions that the kernel maps into every process (vdso(7)), where a restored process's
// kernel is not its image's. Pointers to them are all over an image (ld.so's, of IFUNCs), so the
// image's own vdso stays at its place, as ordinary memory, and its functions lead to the kernel's.
// CRIU calls that a proxy (criu/pie/parasite-vdso.c, criu/arch/x86/vdso-pie.c). Read by a program
// without a C library (restore.cc), so this needs none.

namespace pylaunch::image {

// Bytes of a vdso, from its ELF header on; `bytes` is aligned as Elf64_Ehdr is.
struct Vdso {
  const unsigned char* bytes = nullptr;
  uint64_t size = 0;  // A multiple of kPage.
};

// More than any kernel's; the size of what claims to be more is 0.
inline constexpr uint64_t kMaxVdso = 16 * 4096;

// The one that begins at `address` (AT_SYSINFO_EHDR), with the pages that the kernel must have
// mapped for it; of no size if there is none, or it is no ELF file.
Vdso VdsoAt(uint64_t address);

bool operator==(const Vdso& a, const Vdso& b);

// Makes of each function in `copy`, which holds the bytes of `image`, one that goes on at the
// function of that name in `live`, where the kernel mapped it; `live` may have no size. What `live`
// lacks is the system call itself. So is getrandom: its callers have asked the image's kernel how
// large their state is (lib/vgetrandom.c, glibc's sysdeps/unix/sysv/linux/getrandom.c). What is no
// system call either ends the process (ud2).
// False: `image` is no vdso as they are known, or has no function; `copy` may have changed.
bool LeadVdso(const Vdso& image, const Vdso& live, unsigned char* copy);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_VDSO_H_
