#include "launcher/engine/imaging/confinement.h"

#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

namespace pylaunch::engine {
namespace {

// What nobody else can notice.
// clang-format off
constexpr uint32_t kHarmless[] = {
    __NR_access, __NR_arch_prctl, __NR_brk, __NR_clock_getres, __NR_clock_gettime,
    __NR_clock_nanosleep, __NR_close, __NR_dup, __NR_dup2, __NR_dup3, __NR_exit, __NR_exit_group,
    __NR_faccessat, __NR_faccessat2, __NR_fstat, __NR_futex, __NR_getcwd, __NR_getdents64,
    __NR_getegid, __NR_geteuid, __NR_getgid, __NR_getpid, __NR_getppid, __NR_getrandom,
    __NR_getrlimit, __NR_getrusage, __NR_gettid, __NR_gettimeofday, __NR_getuid,
    __NR_lseek, __NR_lstat, __NR_madvise, __NR_mmap, __NR_mprotect, __NR_mremap, __NR_munmap,
    __NR_nanosleep, __NR_newfstatat, __NR_pipe2, __NR_poll, __NR_prctl, __NR_pread64, __NR_read,
    __NR_readlink, __NR_readlinkat, __NR_readv, __NR_rseq, __NR_rt_sigaction, __NR_rt_sigprocmask,
    __NR_rt_sigreturn, __NR_sched_getaffinity, __NR_sched_yield, __NR_set_robust_list,
    __NR_sigaltstack, __NR_stat, __NR_statx, __NR_times, __NR_uname,
};
// clang-format on
// Of ioctl(2): isatty(3), close-on-exec, PAGEMAP_SCAN (image/written_pages.cc).
constexpr uint32_t kQuestions[] = {TCGETS, FIOCLEX, FIONCLEX, 0xc0606610};
constexpr uint32_t kWrites[] = {__NR_write, __NR_writev, __NR_pwrite64};
constexpr uint32_t kReadingFlags =
    O_CLOEXEC | O_DIRECTORY | O_NOATIME | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | O_LARGEFILE;

constexpr uint32_t At(size_t field) { return static_cast<uint32_t>(field); }
// The lower half of an argument, all that descriptors and flags have.
constexpr uint32_t Argument(uint32_t index) { return At(offsetof(seccomp_data, args)) + 8 * index; }

class Filter {
 public:
  void Load(uint32_t at) { Add(BPF_LD | BPF_W | BPF_ABS, 0, 0, at); }
  void Return(uint32_t what) { Add(BPF_RET | BPF_K, 0, 0, what); }
  void Forbid() { Return(SECCOMP_RET_ERRNO | EPERM); }
  // What follows next holds if the loaded word is so, and is `size` long; else it is left out.
  void If(uint16_t comparison, uint32_t value, uint8_t size) {
    Add(BPF_JMP | comparison | BPF_K, 0, size, value);
  }
  void IfNot(uint16_t comparison, uint32_t value, uint8_t size) {
    Add(BPF_JMP | comparison | BPF_K, size, 0, value);
  }
  void AllowIfEqual(uint32_t value) {
    If(BPF_JEQ, value, 1);
    Return(SECCOMP_RET_ALLOW);
  }
  bool Install() {
    const sock_fprog program = {static_cast<uint16_t>(code_.size()), code_.data()};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
  }

 private:
  void Add(uint16_t code, uint8_t if_true, uint8_t if_false, uint32_t value) {
    code_.push_back({code, if_true, if_false, value});
  }
  std::vector<sock_filter> code_;
};

}  // namespace

bool ConfineToMemory(int fd) {
  Filter filter;
  filter.Load(At(offsetof(seccomp_data, arch)));
  filter.IfNot(BPF_JEQ, AUDIT_ARCH_X86_64, 1);
  filter.Forbid();
  filter.Load(At(offsetof(seccomp_data, nr)));
  for (const uint32_t call : kHarmless) filter.AllowIfEqual(call);
  filter.If(BPF_JEQ, __NR_ioctl, 2 + 2 * std::size(kQuestions));
  filter.Load(Argument(1));
  for (const uint32_t question : kQuestions) filter.AllowIfEqual(question);
  filter.Forbid();
  for (const uint32_t call : kWrites) {
    filter.If(BPF_JEQ, call, 6);
    filter.Load(Argument(0));
    filter.IfNot(BPF_JGT, STDERR_FILENO, 1);
    filter.Return(SECCOMP_RET_ALLOW);
    filter.AllowIfEqual(static_cast<uint32_t>(fd));
    filter.Forbid();
  }
  for (const auto& [call, flags] : {std::pair(__NR_open, 1u), std::pair(__NR_openat, 2u)}) {
    filter.If(BPF_JEQ, static_cast<uint32_t>(call), 4);
    filter.Load(Argument(flags));
    filter.IfNot(BPF_JSET, ~kReadingFlags, 1);
    filter.Return(SECCOMP_RET_ALLOW);
    filter.Forbid();
  }
  filter.Forbid();
  return filter.Install();
}

}  // namespace pylaunch::engine
