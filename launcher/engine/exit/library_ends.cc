#include "launcher/engine/exit/library_ends.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "launcher/engine/base/loaded_object.h"

namespace pylaunch::engine {
namespace {

using Function = void (*)();

// -1: any byte.
template <size_t N>
bool StartsWith(const unsigned char* code, const std::array<int, N>& pattern) {
  for (size_t i = 0; i < N; ++i) {
    if (pattern[i] >= 0 && code[i] != pattern[i]) return false;
  }
  return true;
}

const unsigned char* CodeOf(Function function) {
  constexpr std::array<int, 4> kEndbr64 = {0xf3, 0x0f, 0x1e, 0xfa};
  const auto* code = reinterpret_cast<const unsigned char*>(function);
  return StartsWith(code, kEndbr64) ? code + kEndbr64.size() : code;
}

// libgcc/crtstuff.c, in what GCC and Clang make of it: cmpb $0, completed(%rip); jne; push %rbp, by
// some; cmpq $0, __cxa_finalize@GOT(%rip). A destructor function that a flag of its own turns off
// begins with the first two, but hardly asks next whether the C library has that function.
bool IsDtorsAux(Function function) {
  constexpr int kPushRbp = 0x55;
  const unsigned char* code = CodeOf(function);
  if (!StartsWith<8>(code, {0x80, 0x3d, -1, -1, -1, -1, 0x00, 0x75})) return false;
  code += 9;  // With the jump's distance.
  if (*code == kPushRbp) ++code;
  return StartsWith<8>(code, {0x48, 0x83, 0x3d, -1, -1, -1, -1, 0x00});
}

// glibc's sysdeps/x86_64/crti.S and crtn.S: sub $8, %rsp; add $8, %rsp; ret
bool IsEmptyFini(Function function) {
  return StartsWith<9>(CodeOf(function), {0x48, 0x83, 0xec, 0x08, 0x48, 0x83, 0xc4, 0x08, 0xc3});
}

// What is no function of the compiler's, in the order in which it would run.
std::vector<Function> EndsOf(const link_map& library) {
  const ElfW(Addr)* array = nullptr;
  size_t size = 0;
  Function fini = nullptr;
  for (const ElfW(Dyn)* entry = library.l_ld; entry->d_tag != DT_NULL; ++entry) {
    const ElfW(Addr) address = library.l_addr + entry->d_un.d_ptr;
    if (entry->d_tag == DT_FINI_ARRAY) array = reinterpret_cast<const ElfW(Addr)*>(address);
    if (entry->d_tag == DT_FINI_ARRAYSZ) size = entry->d_un.d_val / sizeof(ElfW(Addr));
    if (entry->d_tag == DT_FINI) fini = reinterpret_cast<Function>(address);
  }
  std::vector<Function> functions;
  for (size_t i = array == nullptr ? 0 : size; i-- > 0;) {
    const auto function = reinterpret_cast<Function>(array[i]);
    if (!IsDtorsAux(function)) functions.push_back(function);
  }
  if (fini != nullptr && !IsEmptyFini(fini)) functions.push_back(fini);
  return functions;
}

// The last folder of a file's path; empty: none.
std::string_view FolderName(std::string_view path) {
  const size_t end = path.rfind('/');
  const std::string_view folder = path.substr(0, end == path.npos ? 0 : end);
  return folder.substr(folder.rfind('/') + 1);
}

size_t CountUnloaded() {
  size_t count = 0;
  AnyLoadedObject([&](const dl_phdr_info& object) {
    count = object.dlpi_subs;
    return true;
  });
  return count;
}

}  // namespace

bool LibraryEnds::IsAnyIn(const KnownList& folders) const {
  const bool all = last_ == nullptr || CountUnloaded() != unloaded_;  // last_ may be gone.
  const link_map* library = all ? _r_debug.r_map : last_->l_next;
  for (; library != nullptr; library = library->l_next) {
    if (folders.Names(FolderName(library->l_name))) return true;
  }
  return false;
}

void LibraryEnds::Note(KnownList* quiet, KnownList* separate) {
  known_ = true;
  for (const link_map* library = _r_debug.r_map; library != nullptr; library = library->l_next) {
    last_ = library;
    const std::vector<Function> functions = EndsOf(*library);
    if (functions.empty() || quiet->HasLibrary(library->l_name)) continue;
    if (!separate->HasLibrary(library->l_name)) known_ = false;
    functions_.insert(functions_.end(), functions.begin(), functions.end());
  }
  unloaded_ = CountUnloaded();
}

bool LibraryEnds::AreKnown() const {
  if (!known_ || CountUnloaded() != unloaded_) return false;
  for (const link_map* library = last_->l_next; library != nullptr; library = library->l_next) {
    if (!EndsOf(*library).empty()) return false;
  }
  return true;
}

void LibraryEnds::Run() const {
  for (const Function function : functions_) function();
}

}  // namespace pylaunch::engine
