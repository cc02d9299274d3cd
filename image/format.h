#ifndef PYLAUNCH_IMAGE_FORMAT_H_
#define PYLAUNCH_IMAGE_FORMAT_H_

#include <cstdint>

// An image file: what a process consisted of, in the terms of mmap(2).
//
//   Header | Piece * piece_count | paths, each ended by NUL | padding | vdso | padding | pages |
//   movable times | list of needed pages (page_list.h) | padding
//
// All integers are little-endian, since the file never leaves its machine; offsets count from the
// file's start. The pieces do not overlap, and those of one file stand together. Read by a program
// without a C library (restore.cc), so this header needs none. Which process may be restored from
// which image is not told here but in the key file beside it (key.h).

namespace pylaunch::image {

inline constexpr char kMagic[8] = {'P', 'Y', 'L', 'I', 'M', 'G', '\r', '\n'};
inline constexpr uint32_t kFormat = 11;
inline constexpr uint64_t kPage = 4096;

enum class PieceKind : uint32_t {
  kAnonymous,  // Fresh zero pages.
  kFile,       // Pages of a file that the process had not changed.
  kImage,      // Pages of the image, copied when they are written to.
  kCopy,   // As kAnonymous, then [copy_address, +copy_size) is read from the image: one mapping.
  kStack,  // As kCopy, and the kernel lets it grow downward (MAP_GROWSDOWN).
};

// What is asked of the kernel for a piece once it is mapped, each a bit of Piece::traits:
// madvise(2) but for the last two.
enum PieceTrait : uint32_t {
  kWipedOnFork = 1 << 0,   // MADV_WIPEONFORK
  kNotDumped = 1 << 1,     // MADV_DONTDUMP
  kHugePages = 1 << 2,     // MADV_HUGEPAGE
  kNoHugePages = 1 << 3,   // MADV_NOHUGEPAGE
  kMergeable = 1 << 4,     // MADV_MERGEABLE
  kReadInOrder = 1 << 5,   // MADV_SEQUENTIAL
  kReadAnywhere = 1 << 6,  // MADV_RANDOM
  kGuard = 1 << 7,         // MADV_GUARD_INSTALL
  kDroppable = 1 << 8,     // Mapped with MAP_DROPPABLE, which implies wiped on fork, not dumped.
  kSealed = 1 << 9,        // mseal(2)
};

struct Piece {
  PieceKind kind;
  uint32_t protection;  // PROT_*
  uint64_t address;
  uint64_t size;
  uint64_t offset;  // In the file (kFile) or the image (kImage, kCopy).
  uint64_t copy_address;
  uint64_t copy_size;
  uint32_t path;  // kFile: where in the paths its name begins.
  uint32_t shared;
  uint32_t traits;  // PieceTrait
  uint32_t unused;
  uint64_t inode;
};

// The kernel's own pages (vvar, vdso): where the image had them. They are moved there, if the
// kernel's vdso is still the one that the image has a copy of (vdso.h).
struct SpecialRegion {
  uint64_t address;
  uint64_t size;
};
inline constexpr uint32_t kMaxSpecial = 4;

// Where a clock's time is kept that begins with the boot: an address, a multiple of eight, of an
// integer of 64 bits, nanoseconds. With this mark, of a timespec whose nanoseconds have four bytes.
// In another boot they are moved with the clock: as long ago as they were when the image was made.
inline constexpr uint64_t kTimespecMark = 1;

struct Header {
  char magic[8];
  uint32_t format;
  uint32_t piece_count;
  uint64_t paths_offset;
  uint64_t data_offset;  // Of the first page; what stands before it is the table.
  uint64_t file_size;
  uint64_t vdso;         // What AT_SYSINFO_EHDR was.
  uint64_t vdso_offset;  // In the file, a multiple of eight.
  uint64_t vdso_size;
  uint64_t times_offset;  // Of the movable times.
  uint64_t times_count;
  int64_t captured_ns;  // CLOCK_MONOTONIC when the image was made.
  SpecialRegion special[kMaxSpecial];
  uint32_t special_count;
  uint32_t tid_offset;  // Of struct pthread's tid, from the thread pointer.
  uint64_t thread_pointer;
  uint64_t robust_list;
  uint64_t robust_list_size;
  uint64_t stack;  // Stack pointer for `entry`.
  uint64_t entry;  // void(const Restored*), does not return.
  char name[16];   // As PR_GET_NAME gives it.
  uint64_t needed_offset;
  uint64_t needed_size;  // 0: there is no list.
};

// What the restored process is told about itself.
struct Restored {
  int64_t argc;
  char** argv;
  char** envp;
};

// Where the restoring program and its table lie: below every executable but those at fixed low
// addresses, above any heap that can follow one of these.
inline constexpr uint64_t kRestorerAddress = 0x3f00000000;
inline constexpr uint64_t kTableAddress = 0x3f80000000;

// How often the restoring program lets the kernel draw a layout that the image may fit into.
inline constexpr int kMaxAttempts = 8;
// Its exit code where it could become neither the image's process nor the Python that its variable
// names (handoff_variable.h).
inline constexpr int kCannotRun = 2;

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_FORMAT_H_
