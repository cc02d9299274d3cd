#include "image/vdso.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <string>

namespace pylaunch::image {
namespace {

Vdso Own() { return VdsoAt(getauxval(AT_SYSINFO_EHDR)); }

std::string BytesOf(const Vdso& vdso) {
  return {reinterpret_cast<const char*>(vdso.bytes), vdso.size};
}

// A vdso of our own making: a copy of the kernel's, in which tests can change everything.
class Copy {
 public:
  Copy() : bytes_(BytesOf(Own())) {
    memory_ = mmap(nullptr, bytes_.size(), PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  ~Copy() { munmap(memory_, bytes_.size()); }

  unsigned char* bytes() const { return static_cast<unsigned char*>(memory_); }
  Vdso vdso() const { return {bytes(), bytes_.size()}; }

  // None of its own code can run: int3 wherever a function begins.
  void Stop() {
    for (uint64_t at : Offsets()) bytes_.replace(at, 2, "\xcc\xcc");
  }
  // Under another name, of the same length.
  void Rename(const std::string& name) {
    for (size_t at = 0; (at = bytes_.find(name + '\0', at)) != bytes_.npos;) bytes_[at] = 'X';
  }
  // `which` begins `distance` bytes behind `other`, for the dynamic linker.
  void MoveFunction(const std::string& which, const std::string& other, uint64_t distance) {
    const auto bytes_of = [](uint64_t offset) {
      return std::string(reinterpret_cast<const char*>(&offset), sizeof offset);
    };
    const size_t at = bytes_.find(bytes_of(OffsetOf(which)));
    ASSERT_NE(at, bytes_.npos);
    Set(at, bytes_of(OffsetOf(other) + distance));
  }
  void Set(size_t at, const std::string& bytes) { bytes_.replace(at, bytes.size(), bytes); }
  std::string& text() { return bytes_; }

  bool Lead(const Vdso& live) {
    std::memcpy(memory_, bytes_.data(), bytes_.size());
    const Vdso image = {reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size()};
    return LeadVdso(image, live, bytes());
  }

  // Found otherwise than by what is tested: by section headers.
  template <typename F>
  F* Function(const std::string& name) const {
    return reinterpret_cast<F*>(bytes() + OffsetOf(name));
  }

 private:
  const Elf64_Ehdr& header() const { return *reinterpret_cast<const Elf64_Ehdr*>(Own().bytes); }
  // Of the kernel's own one.
  std::vector<std::pair<std::string, uint64_t>> Symbols() const {
    std::vector<std::pair<std::string, uint64_t>> found;
    const unsigned char* base = Own().bytes;
    const auto* sections = reinterpret_cast<const Elf64_Shdr*>(base + header().e_shoff);
    for (int i = 0; i < header().e_shnum; ++i) {
      if (sections[i].sh_type != SHT_DYNSYM) continue;
      const char* names =
          reinterpret_cast<const char*>(base + sections[sections[i].sh_link].sh_offset);
      const auto* symbols = reinterpret_cast<const Elf64_Sym*>(base + sections[i].sh_offset);
      for (size_t s = 0; s < sections[i].sh_size / sizeof(Elf64_Sym); ++s) {
        if (ELF64_ST_TYPE(symbols[s].st_info) != STT_FUNC) continue;
        found.emplace_back(names + symbols[s].st_name, symbols[s].st_value);
      }
    }
    return found;
  }
  std::vector<uint64_t> Offsets() const {
    std::vector<uint64_t> offsets;
    for (const auto& [name, offset] : Symbols()) offsets.push_back(offset);
    return offsets;
  }
  uint64_t OffsetOf(const std::string& name) const {
    for (const auto& [its, offset] : Symbols()) {
      if (its == name) return offset;
    }
    ADD_FAILURE() << "no " << name;
    return 0;
  }

  std::string bytes_;
  void* memory_;
};

using ClockGettime = int(clockid_t, timespec*);
using Gettimeofday = int(timeval*, void*);
using Time = time_t(time_t*);
using Getcpu = long(unsigned*, unsigned*, void*);
using Getrandom = long(void*, size_t, unsigned, void*, size_t);

// All of them, against what the C library says.
void ExpectRight(const Copy& copy) {
  timespec before, now, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  for (const char* name : {"clock_gettime", "__vdso_clock_gettime"}) {
    ASSERT_EQ(copy.Function<ClockGettime>(name)(CLOCK_MONOTONIC, &now), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    const auto seconds = [](const timespec& t) { return t.tv_sec + 1e-9 * t.tv_nsec; };
    EXPECT_LE(seconds(before), seconds(now));
    EXPECT_LE(seconds(now), seconds(after));
    EXPECT_EQ(copy.Function<ClockGettime>(name)(12345, &now), -EINVAL);
  }
  ASSERT_EQ(copy.Function<ClockGettime>("clock_getres")(CLOCK_MONOTONIC, &now), 0);
  EXPECT_EQ(now.tv_sec, 0);
  timeval day;
  ASSERT_EQ(copy.Function<Gettimeofday>("gettimeofday")(&day, nullptr), 0);
  EXPECT_NEAR(static_cast<double>(day.tv_sec), static_cast<double>(time(nullptr)), 1.0);
  time_t stored;
  EXPECT_NEAR(static_cast<double>(copy.Function<Time>("time")(&stored)),
              static_cast<double>(time(nullptr)), 1.0);
  unsigned processor = ~0u, node = ~0u;
  ASSERT_EQ(copy.Function<Getcpu>("getcpu")(&processor, &node, nullptr), 0);
  EXPECT_LT(processor, static_cast<unsigned>(sysconf(_SC_NPROCESSORS_CONF)));
}

TEST(Vdso, IsAsLargeAsTheKernelMapsIt) {
  ASSERT_GT(Own().size, 0u);
  EXPECT_EQ(Own().size % 4096, 0u);
  EXPECT_EQ(VdsoAt(0).size, 0u);
  alignas(4096) static const char zeros[4096] = {};
  EXPECT_EQ(VdsoAt(reinterpret_cast<uint64_t>(zeros)).size, 0u);
}

TEST(Vdso, OneByteMakesAnother) {
  Copy copy;
  ASSERT_TRUE(copy.Lead(Own()));
  std::memcpy(copy.bytes(), Own().bytes, Own().size);
  EXPECT_TRUE(copy.vdso() == Own());
  copy.bytes()[Own().size - 1] ^= 1;
  EXPECT_FALSE(copy.vdso() == Own());
  EXPECT_FALSE(copy.vdso() == Vdso{});
}

TEST(Vdso, FunctionsLeadToTheKernels) {
  Copy copy;
  copy.Stop();
  ASSERT_TRUE(copy.Lead(Own()));
  ExpectRight(copy);
}

TEST(Vdso, WhatTheKernelHasNotIsTheSystemCall) {
  Copy copy;
  copy.Stop();
  ASSERT_TRUE(copy.Lead({}));
  ExpectRight(copy);
}

// As an older kernel's: clock_getres is there since Linux 5.3.
TEST(Vdso, WhatOneNameHasNotIsTheSystemCall) {
  Copy copy, live;
  copy.Stop();
  live.Rename("__vdso_clock_getres");
  live.Rename("clock_getres");
  std::memcpy(live.bytes(), live.text().data(), live.text().size());
  std::memset(live.bytes() + 4096, 0xcc, live.text().size() - 4096);
  ASSERT_TRUE(copy.Lead(live.vdso()));
  timespec resolution;
  EXPECT_EQ(copy.Function<ClockGettime>("clock_getres")(CLOCK_MONOTONIC, &resolution), 0);
}

TEST(Vdso, UnknownFunctionsEndTheProcess) {
  Copy copy;
  copy.Rename("__vdso_time");
  copy.Rename("time");
  ASSERT_TRUE(copy.Lead({}));
  EXPECT_EXIT(copy.Function<Time>("time")(nullptr), testing::KilledBySignal(SIGILL), "");
}

TEST(Vdso, GetrandomIsTheSystemCall) {
  if (BytesOf(Own()).find("__vdso_getrandom") == std::string::npos) {
    GTEST_SKIP() << "a kernel before 6.11";
  }
  Copy copy;
  copy.Stop();
  ASSERT_TRUE(copy.Lead(Own()));
  auto* getrandom = copy.Function<Getrandom>("__vdso_getrandom");
  char state[64] = {}, bytes[32] = {};
  EXPECT_EQ(getrandom(bytes, sizeof bytes, 0, state, sizeof state), 32);
  EXPECT_NE(std::string(bytes, sizeof bytes), std::string(32, '\0'));
  EXPECT_EQ(std::string(state, sizeof state), std::string(64, '\0'));
  EXPECT_EQ(getrandom(bytes, sizeof bytes, ~0u, state, sizeof state), -EINVAL);
  // Nobody is told the size of a state that no function would use.
  EXPECT_EQ(getrandom(nullptr, 0, 0, state, ~size_t{0}), -ENOSYS);
}

TEST(Vdso, OneWithoutFunctionsIsNone) {
  Copy copy;
  const size_t at = copy.text().find(std::string("\x0a\0\0\0\0\0\0\0", 8));  // DT_STRSZ
  ASSERT_NE(at, std::string::npos);
  copy.Set(at + 8, std::string("\x01\0\0\0\0\0\0\0", 8));
  EXPECT_FALSE(copy.Lead(Own()));
}

// Another function would lose its first bytes.
TEST(Vdso, AFunctionThatIsTooShortIsRefused) {
  for (const size_t room : {4, 11, 12}) {
    Copy copy;
    copy.MoveFunction("getcpu", "__vdso_clock_gettime", room);
    EXPECT_EQ(copy.Lead(Own()), room >= 12) << room;
  }
}

TEST(Vdso, ADamagedOneIsRefusedOrBounded) {
  const std::string whole = BytesOf(Own());
  unsigned refused = 0;
  for (size_t at = 0; at < 4096; ++at) {
    for (const char byte : {'\0', '\x7f', '\xff'}) {
      Copy copy;
      copy.Set(at, std::string(8, byte));
      refused += copy.Lead(Own()) ? 0 : 1;
    }
  }
  EXPECT_GT(refused, 0u);
  EXPECT_FALSE(LeadVdso({}, Own(), nullptr));
}

}  // namespace
}  // namespace pylaunch::image
