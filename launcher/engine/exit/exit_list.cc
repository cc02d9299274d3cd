#include "launcher/engine/exit/exit_list.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace pylaunch::engine {

struct ExitList::Block {
  static constexpr size_t kFunctions = 32;
  // Pointers to functions are mangled, arguments are not.
  struct Function {
    long kind;
    uintptr_t function;
    const void* argument;  // Of on_exit's and __cxa_atexit's.
    const void* library;   // Of __cxa_atexit's.
  };
  Block* next;
  size_t count;
  Function functions[kFunctions];
};

namespace {

// ef_free, ef_cxa.
constexpr long kNone = 0;
constexpr long kCxa = 4;

// exit() passes it on in the second argument: lea __exit_funcs(%rip), %rsi.
const void* FindHead() {
  constexpr int kSearched = 32;  // Bytes.
  const auto* code = static_cast<const unsigned char*>(dlsym(RTLD_DEFAULT, "exit"));
  for (int i = 0; code != nullptr && i < kSearched; ++i) {
    int32_t distance;
    std::memcpy(&distance, code + i + 3, sizeof distance);
    const unsigned char* head = code + i + 7 + distance;
    if (code[i] != 0x48 || code[i + 1] != 0x8d || code[i + 2] != 0x35) continue;
    // Somebody else's exit() may stand before the C library's.
    const auto* libc = reinterpret_cast<const void*>(gnu_get_libc_version);
    Dl_info exit_info, head_info, libc_info;
    const bool same = dladdr(code, &exit_info) != 0 && dladdr(head, &head_info) != 0 &&
                      dladdr(libc, &libc_info) != 0 && exit_info.dli_fbase == head_info.dli_fbase &&
                      exit_info.dli_fbase == libc_info.dli_fbase;
    return same && reinterpret_cast<uintptr_t>(head) % sizeof(void*) == 0 ? head : nullptr;
  }
  return nullptr;
}

}  // namespace

bool ExitList::Note() {
  if (head_ == nullptr) head_ = static_cast<const Block* const*>(FindHead());
  if (head_ == nullptr) return false;
  block_ = *head_;
  count_ = block_ == nullptr ? 0 : block_->count;
  return count_ <= Block::kFunctions;
}

bool ExitList::EndsWith(const void* argument) const {
  const Block* block = head_ == nullptr ? nullptr : *head_;
  if (block == nullptr || block->count == 0 || block->count > Block::kFunctions) return false;
  const Block::Function& last = block->functions[block->count - 1];
  return last.kind == kCxa && last.argument == argument;
}

bool ExitList::HasOnly(const IsKnown& is_known) const {
  for (const Block* block = *head_; block != nullptr; block = block->next) {
    const Block::Function* begin = block->functions + (block == block_ ? count_ : 0);
    const Block::Function* end = block->functions + block->count;
    const bool known = std::all_of(std::min(begin, end), end, [&](const Block::Function& entry) {
      return entry.kind == kNone || (entry.kind == kCxa && is_known(entry.argument));
    });
    if (!known) return false;
    if (block == block_) break;
  }
  return true;
}

}  // namespace pylaunch::engine
