#include "launcher/engine/exit/finalize_shortcut.h"

#include <Python.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <unwind.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace pylaunch::engine {
namespace {

// struct pyruntimestate up to 3.11, struct _atexit_runtime_state since: an array and then its count
// (Include/internal/pycore_runtime.h, pycore_atexit.h; Py_AtExit in Python/pylifecycle.c).
constexpr int kSlots = 32;  // NEXITFUNCS
struct ExitFunctions {
  void (*functions[kSlots])();
  int count;
};

// What a function finds when a function that it called returns: what the psABI has the callee keep.
struct Caller {
  uintptr_t ip, sp, rbx, rbp, r12, r13, r14, r15;
  bool inside = false;  // The frame before was Py_FinalizeEx's, or stood in its place.
  bool found = false;
};

// Found out before the program and used at its end, where a capsule's destructor brings nothing of
// ours along. The caller is not kept on the stack, which Return() leaves while it reads it.
constinit struct {
  ExitFunctions* functions = nullptr;
  uintptr_t finalize = 0;  // Py_FinalizeEx
  Caller caller = {};
} g;

void Probe() {}

// True if Probe, just registered, is the last function of it.
bool EndsWithProbe(const ExitFunctions& table) {
  const int count = table.count;
  return count > 0 && count <= kSlots && table.functions[count - 1] == Probe &&
         (count == kSlots || table.functions[count] == nullptr);
}

ExitFunctions* FindFunctions() {
  Dl_info info;
  ElfW(Sym)* symbol = nullptr;
  void* runtime = dlsym(RTLD_DEFAULT, "_PyRuntime");
  if (runtime == nullptr ||
      dladdr1(runtime, &info, reinterpret_cast<void**>(&symbol), RTLD_DL_SYMENT) == 0 ||
      symbol == nullptr || symbol->st_size < sizeof(ExitFunctions)) {
    return nullptr;
  }
  char* begin = static_cast<char*>(runtime);
  char* end = begin + symbol->st_size - sizeof(ExitFunctions);
  for (char* at = begin; at <= end; at += sizeof(void*)) {
    auto* table = reinterpret_cast<ExitFunctions*>(at);
    if (EndsWithProbe(*table)) return table;
  }
  return nullptr;
}

// call_ll_exitfuncs.
void RunExitFunctions() {
  while (g.functions->count > 0) {
    auto& slot = g.functions->functions[--g.functions->count];
    void (*function)() = slot;
    slot = nullptr;
    function();
  }
  std::fflush(stdout);
  std::fflush(stderr);
}

// True if Py_FinalizeEx ends in a jump to this function, whose frame then stands in its
// place: 3.13's only calls _Py_Finalize, which is static.
bool FinalizeJumpsTo(uintptr_t function) {
  constexpr int kSearched = 32;  // Bytes; a jump that is none leads to no function on the stack.
  const auto* code = reinterpret_cast<const unsigned char*>(g.finalize);
  for (int i = 0; i < kSearched; ++i) {
    int32_t distance;
    std::memcpy(&distance, code + i + 1, sizeof distance);
    if (code[i] == 0xE9 && g.finalize + i + 5 + distance == function) return true;
  }
  return false;
}

_Unwind_Reason_Code OnFrame(_Unwind_Context* frame, void*) {
  if (!g.caller.inside) {
    const uintptr_t function = _Unwind_GetRegionStart(frame);
    g.caller.inside = function == g.finalize || FinalizeJumpsTo(function);
    return _URC_NO_REASON;
  }
  // DWARF's numbers (psABI, figure 3.36).
  g.caller.ip = _Unwind_GetIP(frame);
  g.caller.sp = _Unwind_GetCFA(frame);
  g.caller.rbx = _Unwind_GetGR(frame, 3);
  g.caller.rbp = _Unwind_GetGR(frame, 6);
  g.caller.r12 = _Unwind_GetGR(frame, 12);
  g.caller.r13 = _Unwind_GetGR(frame, 13);
  g.caller.r14 = _Unwind_GetGR(frame, 14);
  g.caller.r15 = _Unwind_GetGR(frame, 15);
  g.caller.found = true;
  return _URC_NORMAL_STOP;
}

// The processor keeps return addresses of its own, which we cannot take back (CET).
bool HasShadowStack() {
  uint64_t pointer = 0;
  asm volatile("rdsspq %0" : "+r"(pointer));  // Does nothing where there is none.
  return pointer != 0;
}

[[noreturn]] void Return() {
  asm volatile(
      "mov 8(%0), %%rsp\n"
      "mov 16(%0), %%rbx\n"
      "mov 24(%0), %%rbp\n"
      "mov 32(%0), %%r12\n"
      "mov 40(%0), %%r13\n"
      "mov 48(%0), %%r14\n"
      "mov 56(%0), %%r15\n"
      "xor %%eax, %%eax\n"
      "jmp *(%0)\n"
      :
      : "D"(&g.caller)
      : "memory");
  __builtin_unreachable();
}

}  // namespace

void PrepareReturnFromFinalize() {
  if (g.functions == nullptr && Py_AtExit(Probe) == 0) g.functions = FindFunctions();
  g.finalize = reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "Py_FinalizeEx"));
}

void ReturnFromFinalize() {
  if (g.functions == nullptr || HasShadowStack()) return;
  g.caller = {};
  _Unwind_Backtrace(OnFrame, nullptr);
  if (!g.caller.found) return;
  RunExitFunctions();
  Return();
}

}  // namespace pylaunch::engine
