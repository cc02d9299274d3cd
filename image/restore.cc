// pylaunch-restore: becomes the process that an image holds. A static program without a C library,
// at an address of its own, because everything else must be free for the image. What it was told
// stands in the environment (format.h); arguments and environment are those that the program shall
// see. Until the jump nothing is lost: what goes wrong ends in execve of the ordinary Python.
//
// After CRIU's criu/pie/restorer.c, of which this is the part that needs no privileges: memory,
// thread pointer, tid, robust list. What a C library can do is left to the resumed engine.

#include <asm/prctl.h>
#include <asm/unistd.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "image/format.h"
#include "image/handoff_variable.h"
#include "image/system_call.h"
#include "image/vdso.h"

namespace pylaunch::image {
namespace {

// What is in the way of a piece: another layout may have room for it (EEXIST); anything else will
// not get better.
enum class Outcome { kDone, kCollision, kFailed };

Outcome Judge(long result) {
  if (result >= 0) return Outcome::kDone;
  return result == -EEXIST ? Outcome::kCollision : Outcome::kFailed;
}

Outcome Map(uint64_t address, uint64_t size, uint32_t protection, int flags, int fd,
            uint64_t offset) {
  return Judge(SystemCall(__NR_mmap, address, size, protection,
                          static_cast<uint64_t>(flags | MAP_FIXED_NOREPLACE),
                          static_cast<uint64_t>(fd), offset));
}

// Not in Debian 12's headers: include/uapi/asm-generic/mman-common.h, include/uapi/linux/mman.h and
// arch/x86/entry/syscalls/syscall_64.tbl of Linux 6.13.
constexpr int kMapDroppable = 0x08;
constexpr int kGuardInstall = 102;  // MADV_GUARD_INSTALL
constexpr long kMseal = 462;
constexpr int64_t kSecondNs = 1'000'000'000;

struct Advice {
  PieceTrait trait;
  uint64_t number;
};
constexpr Advice kAdvice[] = {
    {kWipedOnFork, MADV_WIPEONFORK}, {kNotDumped, MADV_DONTDUMP},  {kHugePages, MADV_HUGEPAGE},
    {kNoHugePages, MADV_NOHUGEPAGE}, {kMergeable, MADV_MERGEABLE}, {kReadInOrder, MADV_SEQUENTIAL},
    {kReadAnywhere, MADV_RANDOM},    {kGuard, kGuardInstall},
};

struct Arguments {
  int64_t argc;
  char** argv;
  char** envp;
  char* handoff;       // The variable's value...
  const char* inodes;  // ...and of that.
  bool moved;
  uint64_t vdso;
  bool trial;  // Nobody waits for its program.
};

Arguments ReadArguments(uint64_t* stack) {
  Arguments arguments = {};
  arguments.argc = static_cast<int64_t>(stack[0]);
  arguments.argv = reinterpret_cast<char**>(stack + 1);
  arguments.envp = arguments.argv + arguments.argc + 1;
  char** end = arguments.envp;
  for (; *end != nullptr; ++end) {
    if (char* value = HandoffValue(*end)) arguments.handoff = value;
  }
  for (auto* auxv = reinterpret_cast<Elf64_auxv_t*>(end + 1); auxv->a_type != AT_NULL; ++auxv) {
    if (auxv->a_type == AT_SYSINFO_EHDR) arguments.vdso = auxv->a_un.a_val;
  }
  return arguments;
}

class Restorer {
 public:
  Restorer(const Arguments& arguments, int image)
      : arguments_(arguments), image_(image), inodes_(arguments.inodes) {}

  Outcome Run() {
    struct stat st;
    if (SystemCall(__NR_fstat, static_cast<uint64_t>(image_), Address(&st)) != 0)
      return Outcome::kFailed;
    Outcome outcome = MapTable(static_cast<uint64_t>(st.st_size));
    if (outcome == Outcome::kDone) outcome = MapPieces();
    if (outcome == Outcome::kDone) outcome = MoveTimes();
    if (outcome == Outcome::kDone) outcome = PutKernelPages();
    if (outcome == Outcome::kDone) outcome = GuardBreak();
    return outcome;
  }

  [[noreturn]] void Jump() {
    const Header h = *header_;
    // The kernel's view of the thread, as clone(2) and glibc's start-up leave it.
    SystemCall(__NR_arch_prctl, ARCH_SET_FS, h.thread_pointer);
    auto* tid = reinterpret_cast<int*>(h.thread_pointer + h.tid_offset);
    *tid = static_cast<int>(SystemCall(__NR_set_tid_address, Address(tid)));
    SystemCall(__NR_set_robust_list, h.robust_list, h.robust_list_size);
    SystemCall(__NR_prctl, PR_SET_NAME, Address(h.name));
    static Restored restored;  // Outlives this stack.
    restored = {arguments_.argc, arguments_.argv, arguments_.envp};
    const uint64_t entry = h.entry, stack = h.stack;
    SystemCall(__NR_munmap, kTableAddress, table_size_);
    SystemCall(__NR_close, static_cast<uint64_t>(image_));
    asm volatile(
        "mov %0, %%rsp\n"
        "xor %%ebp, %%ebp\n"
        "call *%1\n"
        "hlt\n"
        :
        : "r"(stack), "r"(entry), "D"(&restored)
        : "memory");
    __builtin_unreachable();
  }

 private:
  Outcome MapTable(uint64_t file_size) {
    // As much as any table takes; what is never touched costs nothing.
    constexpr uint64_t kTableLimit = 64 << 20;
    const uint64_t size = file_size < kTableLimit ? file_size : kTableLimit;
    const Outcome outcome = Map(kTableAddress, size, PROT_READ, MAP_PRIVATE, image_, 0);
    if (outcome != Outcome::kDone) return outcome;
    table_size_ = size;
    header_ = reinterpret_cast<const Header*>(kTableAddress);
    pieces_ = reinterpret_cast<const Piece*>(header_ + 1);
    paths_ = reinterpret_cast<const char*>(kTableAddress + header_->paths_offset);
    for (unsigned i = 0; i < sizeof kMagic; ++i) {
      if (header_->magic[i] != kMagic[i]) return Outcome::kFailed;
    }
    const bool fits =
        header_->format == kFormat && header_->file_size == file_size &&
        header_->data_offset <= size && header_->vdso_offset <= header_->data_offset &&
        header_->vdso_size <= header_->data_offset - header_->vdso_offset &&
        header_->times_offset <= file_size &&
        header_->times_count <= (file_size - header_->times_offset) / sizeof(uint64_t);
    return fits ? Outcome::kDone : Outcome::kFailed;
  }

  Outcome MapPieces() {
    Outcome outcome = Outcome::kDone;
    for (uint32_t i = 0; i < header_->piece_count && outcome == Outcome::kDone; ++i) {
      outcome = MapPiece(pieces_[i]);
      if (outcome == Outcome::kDone) outcome = GiveTraits(pieces_[i]);
    }
    if (file_ >= 0) SystemCall(__NR_close, static_cast<uint64_t>(file_));
    return outcome;
  }

  Outcome MapPiece(const Piece& p) {
    const int kind = (p.traits & kDroppable) != 0 ? kMapDroppable : MAP_PRIVATE;
    const int fresh = kind | MAP_ANONYMOUS | MAP_NORESERVE;
    switch (p.kind) {
      case PieceKind::kAnonymous:
        return MapFresh(p, fresh);
      case PieceKind::kImage:
        return MapImage(p);
      case PieceKind::kFile:
        if (!Open(p)) return Outcome::kFailed;
        return Map(p.address, p.size, p.protection, p.shared != 0 ? MAP_SHARED : MAP_PRIVATE, file_,
                   p.offset);
      case PieceKind::kCopy:
        return MapCopy(p, fresh);
      case PieceKind::kStack:
        return MapCopy(p, fresh | MAP_GROWSDOWN);
    }
    return Outcome::kFailed;
  }

  Outcome MapImage(const Piece& p) {
    const Outcome outcome = Map(p.address, p.size, p.protection, MAP_PRIVATE, image_, p.offset);
    if (outcome == Outcome::kDone && arguments_.trial) SplitForTrial(p);
    return outcome;
  }

  // From a trial it is learnt which pages a process needs (page_list.h), by what is in memory
  // then. A page fault maps the pages around it as well (do_fault_around in mm/memory.c), up to 16,
  // or all of a large folio; but none beyond its mapping. So the mappings are made small, by advice
  // that differs from one to the next. There may be 65,530 in all (vm.max_map_count).
  void SplitForTrial(const Piece& p) const {
    constexpr uint64_t kMaxMappings = 50'000;
    if (header_->piece_count > kMaxMappings / 2) return;
    const uint64_t pages = header_->file_size / kPage;
    const uint64_t step = (pages / (kMaxMappings - header_->piece_count) + 1) * kPage;
    for (uint64_t at = p.address; at < p.address + p.size; at += 2 * step) {
      const uint64_t left = p.address + p.size - at;
      SystemCall(__NR_madvise, at, left < step ? left : step, MADV_RANDOM);
    }
  }

  // Before Linux 6.11 nothing is droppable; what else that means, the traits say.
  static Outcome MapFresh(const Piece& p, int flags) {
    const Outcome outcome = Map(p.address, p.size, p.protection, flags, -1, 0);
    if (outcome != Outcome::kFailed || (p.traits & kDroppable) == 0) return outcome;
    return Map(p.address, p.size, p.protection, (flags & ~kMapDroppable) | MAP_PRIVATE, -1, 0);
  }

  static Outcome GiveTraits(const Piece& p) {
    Outcome outcome = Outcome::kDone;
    for (const Advice& advice : kAdvice) {
      if ((p.traits & advice.trait) == 0 || outcome != Outcome::kDone) continue;
      outcome = Judge(SystemCall(__NR_madvise, p.address, p.size, advice.number));
    }
    if ((p.traits & kSealed) != 0 && outcome == Outcome::kDone) {
      outcome = Judge(SystemCall(kMseal, p.address, p.size, 0));
    }
    return outcome;
  }

  Outcome MapCopy(const Piece& p, int flags) {
    const Outcome outcome = Map(p.address, p.size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (outcome != Outcome::kDone) return outcome;
    for (uint64_t done = 0; done < p.copy_size;) {
      const long n = SystemCall(__NR_pread64, static_cast<uint64_t>(image_), p.copy_address + done,
                                p.copy_size - done, p.offset + done);
      if (n <= 0) return Outcome::kFailed;
      done += static_cast<uint64_t>(n);
    }
    return Judge(SystemCall(__NR_mprotect, p.address, p.size, p.protection));
  }

  // By as much as this boot's clock differs from what it was when the image was made.
  Outcome MoveTimes() {
    if (!arguments_.moved) return Outcome::kDone;
    timespec now = {};
    SystemCall(__NR_clock_gettime, CLOCK_MONOTONIC, Address(&now));
    const int64_t distance = now.tv_sec * kSecondNs + now.tv_nsec - header_->captured_ns;
    for (uint64_t i = 0; i < header_->times_count; ++i) {
      uint64_t time = 0;
      const long n = SystemCall(__NR_pread64, static_cast<uint64_t>(image_), Address(&time),
                                sizeof time, header_->times_offset + i * sizeof time);
      if (n != sizeof time) return Outcome::kFailed;
      MoveTime(time, distance);
    }
    return Outcome::kDone;
  }

  static void MoveTime(uint64_t time, int64_t distance_ns) {
    auto* value = reinterpret_cast<int64_t*>(time & ~kTimespecMark);
    if ((time & kTimespecMark) == 0) {
      *value += distance_ns;
      return;
    }
    auto* ns = reinterpret_cast<uint32_t*>(value + 1);
    const int64_t moved = *value * kSecondNs + *ns + distance_ns;
    // Of an unsigned number of seconds nothing lies before the boot.
    const int64_t at = moved > 0 ? moved : 0;
    *value = at / kSecondNs;
    *ns = static_cast<uint32_t>(at % kSecondNs);
  }

  // What the file is to be; the image may have been made where it had another number.
  bool IsExpected(const Piece& p, uint64_t inode) {
    return inode == (*arguments_.inodes == ':' ? p.inode : TakeInode(&inodes_));
  }

  // The pieces of one file stand together, so one descriptor at a time is enough. The file may have
  // been replaced since the key was checked.
  bool Open(const Piece& p) {
    const char* path = paths_ + p.path;
    if (path == open_path_) return true;
    if (file_ >= 0) SystemCall(__NR_close, static_cast<uint64_t>(file_));
    const int flags = O_RDONLY | O_CLOEXEC;
    file_ = static_cast<int>(SystemCall(__NR_open, Address(path), static_cast<uint64_t>(flags)));
    open_path_ = path;
    if (*arguments_.inodes == kAnyInodes[0]) return file_ >= 0;
    struct stat st;
    return file_ >= 0 && SystemCall(__NR_fstat, static_cast<uint64_t>(file_), Address(&st)) == 0 &&
           IsExpected(p, st.st_ino);
  }

  Outcome PutKernelPages() {
    if (header_->vdso == 0) return Outcome::kDone;
    const Vdso image = {
        reinterpret_cast<const unsigned char*>(kTableAddress + header_->vdso_offset),
        header_->vdso_size};
    const Vdso live = VdsoAt(arguments_.vdso);
    const Outcome moved = image == live ? MoveKernelPages() : Outcome::kFailed;
    return moved == Outcome::kFailed ? LeadKernelPages(image, live) : moved;
  }

  // The kernel's stay where they are. Where the image had what its vdso reads (vvar), nothing need
  // be: none of its code runs.
  Outcome LeadKernelPages(const Vdso& image, const Vdso& live) {
    const uint64_t at = header_->vdso;
    const int fresh = MAP_PRIVATE | MAP_ANONYMOUS;
    const Outcome outcome = Map(at, image.size, PROT_READ | PROT_WRITE, fresh, -1, 0);
    if (outcome != Outcome::kDone) return outcome;
    auto* copy = reinterpret_cast<unsigned char*>(at);
    __builtin_memcpy(copy, image.bytes, image.size);
    if (!LeadVdso(image, live, copy)) return Outcome::kFailed;
    return Judge(SystemCall(__NR_mprotect, at, image.size, PROT_READ | PROT_EXEC));
  }

  // The same kernel gives every process the same pages in the same order, so that only the distance
  // differs. Their places are taken first: mremap(2) asks nobody. A kernel that seals its pages
  // (CONFIG_MSEAL_SYSTEM_MAPPINGS) moves none.
  Outcome MoveKernelPages() {
    const Header& h = *header_;
    const uint64_t distance = arguments_.vdso - h.vdso;
    if (distance == 0) return Outcome::kDone;
    for (uint32_t i = 0; i < h.special_count; ++i) {
      const SpecialRegion& to = h.special[i];
      const Outcome outcome =
          Map(to.address, to.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (outcome != Outcome::kDone) return outcome;
    }
    for (uint32_t i = 0; i < h.special_count; ++i) {
      const SpecialRegion& to = h.special[i];
      const long moved = SystemCall(__NR_mremap, to.address + distance, to.size, to.size,
                                    MREMAP_MAYMOVE | MREMAP_FIXED, to.address);
      if (moved >= 0) continue;
      for (uint32_t j = i; j < h.special_count; ++j) {
        SystemCall(__NR_munmap, h.special[j].address, h.special[j].size);
      }
      return i == 0 ? Outcome::kFailed : Outcome::kCollision;
    }
    return Outcome::kDone;
  }

  // glibc's malloc would believe that the image's heap ends at this process's break. With a page in
  // the way brk(2) fails, and malloc turns to mmap.
  Outcome GuardBreak() {
    const auto at = static_cast<uint64_t>(SystemCall(__NR_brk, 0));
    const uint64_t page = (at + kPage - 1) & ~(kPage - 1);
    const Outcome outcome = Map(page, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return outcome == Outcome::kCollision ? Outcome::kDone : outcome;
  }

  const Arguments& arguments_;
  int image_;
  int file_ = -1;
  const char* inodes_;  // What is left of them.
  const char* open_path_ = nullptr;
  uint64_t table_size_ = 0;
  const Header* header_ = nullptr;
  const Piece* pieces_ = nullptr;
  const char* paths_ = nullptr;
};

[[noreturn]] void Exit(int code) {
  for (;;) SystemCall(__NR_exit_group, static_cast<uint64_t>(code));
}

void Execute(const char* path, const Arguments& arguments) {
  SystemCall(__NR_execve, Address(path), Address(arguments.argv), Address(arguments.envp));
}

[[noreturn]] void Main(uint64_t* stack) {
  Arguments arguments = ReadArguments(stack);
  HandoffVariable handoff;
  const bool told =
      arguments.handoff != nullptr && ParseHandoffVariable(arguments.handoff, &handoff);
  if (!told || handoff.attempt == nullptr) Exit(kCannotRun);
  arguments.inodes = handoff.inodes;
  arguments.moved = handoff.moved;
  arguments.trial = *handoff.python == '\0';
  Restorer restorer(arguments, handoff.second);
  const Outcome outcome = restorer.Run();
  if (outcome == Outcome::kDone) restorer.Jump();
  if (outcome == Outcome::kCollision && *handoff.attempt < '0' + kMaxAttempts) {
    ++*handoff.attempt;  // The kernel draws another layout.
    Execute("/proc/self/exe", arguments);
  }
  Execute(handoff.python, arguments);
  Exit(kCannotRun);
}

}  // namespace
}  // namespace pylaunch::image

extern "C" {

[[noreturn, gnu::used]] void RestoreMain(uint64_t* stack) { pylaunch::image::Main(stack); }

[[gnu::naked, gnu::used]] void _start() {
  asm("mov %rsp, %rdi\n"
      "xor %ebp, %ebp\n"
      "and $-16, %rsp\n"
      "call RestoreMain\n");
}

// The compiler may call these for structs.
[[gnu::used]] void* memset(void* to, int value, unsigned long size) {
  auto* bytes = static_cast<volatile char*>(to);
  for (unsigned long i = 0; i < size; ++i) bytes[i] = static_cast<char>(value);
  return to;
}
[[gnu::used]] void* memcpy(void* to, const void* from, unsigned long size) {
  auto* bytes = static_cast<volatile char*>(to);
  for (unsigned long i = 0; i < size; ++i) bytes[i] = static_cast<const char*>(from)[i];
  return to;
}
}
