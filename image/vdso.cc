#include "image/vdso.h"

#include <asm/unistd.h>
#include <elf.h>
#include <errno.h>

#include "image/format.h"
#include "image/system_call.h"

namespace pylaunch::image {
namespace {

// A structure at `offset`, or null where none fits.
template <typename T>
const T* At(const Vdso& vdso, uint64_t offset, uint64_t count = 1) {
  const bool fits =
      offset % alignof(T) == 0 && offset <= vdso.size && count <= (vdso.size - offset) / sizeof(T);
  return fits ? reinterpret_cast<const T*>(vdso.bytes + offset) : nullptr;
}

const Elf64_Phdr* Segment(const Vdso& vdso, uint32_t type) {
  const auto* header = At<Elf64_Ehdr>(vdso, 0);
  if (header == nullptr) return nullptr;
  for (unsigned i = 0; i < SELFMAG; ++i) {
    if (header->e_ident[i] != static_cast<unsigned char>(ELFMAG[i])) return nullptr;
  }
  const auto* segments = At<Elf64_Phdr>(vdso, header->e_phoff, header->e_phnum);
  for (unsigned i = 0; segments != nullptr && i < header->e_phnum; ++i) {
    if (segments[i].p_type == type) return &segments[i];
  }
  return nullptr;
}

// Its functions by their names.
class Functions {
 public:
  explicit Functions(const Vdso& vdso) {
    const Elf64_Phdr* load = Segment(vdso, PT_LOAD);
    const Elf64_Phdr* dynamic = Segment(vdso, PT_DYNAMIC);
    if (load == nullptr || dynamic == nullptr) return;
    base_ = load->p_vaddr;
    size_ = vdso.size;
    uint64_t table = 0, names = 0;
    for (uint64_t at = dynamic->p_vaddr - base_;; at += sizeof(Elf64_Dyn)) {
      const auto* entry = At<Elf64_Dyn>(vdso, at);
      if (entry == nullptr || entry->d_tag == DT_NULL) break;
      if (entry->d_tag == DT_SYMTAB) table = entry->d_un.d_ptr - base_;
      if (entry->d_tag == DT_STRTAB) names = entry->d_un.d_ptr - base_;
      if (entry->d_tag == DT_STRSZ) names_size_ = entry->d_un.d_val;
    }
    // Nothing but a hash table tells how many symbols there are; in every vdso their names follow
    // (arch/x86/entry/vdso/vdso-layout.lds.S).
    if (names <= table) return;
    count_ = (names - table) / sizeof(Elf64_Sym);
    symbols_ = At<Elf64_Sym>(vdso, table, count_);
    names_ = At<char>(vdso, names, names_size_);
    if (names_ != nullptr && names_size_ > 0 && names_[names_size_ - 1] != '\0') names_ = nullptr;
  }

  bool ok() const { return symbols_ != nullptr && names_ != nullptr; }
  uint64_t count() const { return count_; }

  // The name of the symbol `i`, if it is a function's, without "__vdso_", which some have as well;
  // else null.
  const char* Name(uint64_t i) const {
    const Elf64_Sym& symbol = symbols_[i];
    if (symbol.st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol.st_info) != STT_FUNC ||
        symbol.st_name >= names_size_ || Offset(i) >= size_) {
      return nullptr;
    }
    const char* name = names_ + symbol.st_name;
    const char* prefix = "__vdso_";
    const char* rest = name;
    while (*prefix != '\0' && *prefix == *rest) ++prefix, ++rest;
    return *prefix == '\0' ? rest : name;
  }

  // Where it begins, from the vdso's beginning.
  uint64_t Offset(uint64_t i) const { return symbols_[i].st_value - base_; }

  // 0: there is none of that name.
  uint64_t Find(const char* name) const;

  // How many bytes belong to nobody else from `offset` on.
  uint64_t Room(uint64_t offset) const {
    uint64_t end = size_;
    for (uint64_t i = 0; i < count_; ++i) {
      if (Name(i) != nullptr && Offset(i) > offset && Offset(i) < end) end = Offset(i);
    }
    return end - offset;
  }

 private:
  uint64_t base_ = 0;
  uint64_t size_ = 0;
  const Elf64_Sym* symbols_ = nullptr;
  uint64_t count_ = 0;
  const char* names_ = nullptr;
  uint64_t names_size_ = 0;
};

bool SameName(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

uint64_t Functions::Find(const char* name) const {
  if (!ok()) return 0;
  for (uint64_t i = 0; i < count_; ++i) {
    const char* its = Name(i);
    if (its != nullptr && SameName(its, name)) return Offset(i);
  }
  return 0;
}

// The x86_64 vdso's (arch/x86/entry/vdso/vdso.lds.S), each with the same arguments and result as
// the call. The numbers are arch/x86/entry/syscalls/syscall_64.tbl's.
constexpr char kGetrandom[] = "getrandom";
constexpr struct {
  const char* name;
  uint32_t number;
} kCalls[] = {
    {"clock_gettime", __NR_clock_gettime},
    {"clock_getres", __NR_clock_getres},
    {"gettimeofday", __NR_gettimeofday},
    {"time", __NR_time},
    {"getcpu", __NR_getcpu},
    {kGetrandom, __NR_getrandom},
};

uint32_t CallOf(const char* name, bool* known) {
  for (const auto& call : kCalls) {
    *known = SameName(call.name, name);
    if (*known) return call.number;
  }
  return 0;
}

// Instructions in the place of a function.
class Code {
 public:
  void Jump(uint64_t to) {  // mov $to, %rax; jmp *%rax: no argument is in it.
    Put(0x48), Put(0xb8), PutNumber(to, 8), Put(0xff), Put(0xe0);
  }
  void Call(uint32_t number) {  // mov $number, %eax; syscall; ret
    Put(0xb8), PutNumber(number, 4), Put(0x0f), Put(0x05), Put(0xc3);
  }
  // For who asks how large a state is: cmp $-1, %r8; jne behind; mov $-ENOSYS, %rax; ret
  void RefuseSize() {
    Put(0x49), Put(0x83), Put(0xf8), Put(0xff), Put(0x75), Put(0x08);
    Put(0x48), Put(0xc7), Put(0xc0), PutNumber(static_cast<uint32_t>(-ENOSYS), 4), Put(0xc3);
  }
  void End() { Put(0x0f), Put(0x0b); }  // ud2

  uint64_t size() const { return size_; }
  void CopyTo(unsigned char* bytes) const {
    // Volatile: else the compiler may want a C library's memcpy.
    volatile unsigned char* to = bytes;
    for (unsigned i = 0; i < size_; ++i) to[i] = code_[i];
  }

 private:
  void Put(unsigned char byte) { code_[size_++] = byte; }
  void PutNumber(uint64_t number, int size) {
    for (; size > 0; --size, number >>= 8) Put(static_cast<unsigned char>(number));
  }

  unsigned char code_[32] = {};
  unsigned size_ = 0;
};

Code CodeFor(const char* name, uint64_t live, uint64_t target) {
  Code code;
  bool known = false;
  const uint32_t number = CallOf(name, &known);
  if (SameName(name, kGetrandom)) {
    code.RefuseSize();
    code.Call(number);
  } else if (target != 0) {
    code.Jump(live + target);
  } else if (known) {
    code.Call(number);
  } else {
    code.End();
  }
  return code;
}

}  // namespace

Vdso VdsoAt(uint64_t address) {
  if (address == 0) return {};
  const auto* bytes = reinterpret_cast<const unsigned char*>(address);
  const Elf64_Phdr* load = Segment({bytes, kPage}, PT_LOAD);
  if (load == nullptr || load->p_filesz == 0 || load->p_filesz > kMaxVdso) return {};
  return {bytes, (load->p_filesz + kPage - 1) & ~(kPage - 1)};
}

bool operator==(const Vdso& a, const Vdso& b) {
  if (a.size != b.size) return false;
  const auto* words = reinterpret_cast<const uint64_t*>(a.bytes);
  const auto* others = reinterpret_cast<const uint64_t*>(b.bytes);
  for (uint64_t i = 0; i < a.size / sizeof(uint64_t); ++i) {
    if (words[i] != others[i]) return false;
  }
  return true;
}

bool LeadVdso(const Vdso& image, const Vdso& live, unsigned char* copy) {
  const Functions from(image), to(live);
  if (!from.ok()) return false;
  bool any = false;
  for (uint64_t i = 0; i < from.count(); ++i) {
    const char* name = from.Name(i);
    if (name == nullptr) continue;
    const uint64_t at = from.Offset(i);
    const Code code = CodeFor(name, Address(live.bytes), to.Find(name));
    if (code.size() > from.Room(at)) return false;
    code.CopyTo(copy + at);
    any = true;
  }
  return any;
}

}  // namespace pylaunch::image
