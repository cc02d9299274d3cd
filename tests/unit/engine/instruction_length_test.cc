#include "launcher/engine/imaging/instruction_length.h"

#include <gtest/gtest.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "launcher/engine/imaging/function_bounds.h"

namespace pylaunch::engine {
namespace {

struct Listed {
  std::string bytes;
  std::string text;
};

// A line of `objdump -dw --show-raw-insn`: "  401000:\tf3 0f 1e fa \tendbr64".
bool ParseLine(const char* line, Listed* listed) {
  const char* tab = std::strchr(line, '\t');
  if (line[0] != ' ' || tab == nullptr) return false;
  listed->bytes.clear();
  const char* at = tab + 1;
  for (char* end; *at != '\t' && *at != '\n' && *at != '\0'; at = end) {
    listed->bytes += static_cast<char>(std::strtoul(at, &end, 16));
    while (*end == ' ') ++end;
  }
  listed->text = at;
  return !listed->bytes.empty();
}

// Compares with objdump what is in `file`; returns of how many instructions.
size_t Compare(const std::string& file) {
  FILE* pipe = popen(("objdump -dw --show-raw-insn " + file + " 2>/dev/null").c_str(), "r");
  char line[4096];
  size_t count = 0, wrong = 0;
  Listed listed;
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    if (!ParseLine(line, &listed) || listed.text.find("(bad)") != std::string::npos) continue;
    // A prefix before another one: data among the code.
    if (listed.text.starts_with("\trex") && listed.bytes.size() == 1) continue;
    ++count;
    const auto* code = reinterpret_cast<const uint8_t*>(listed.bytes.data());
    const size_t length = InstructionLength(code, code + listed.bytes.size());
    if (length == listed.bytes.size() || ++wrong > 20) continue;
    ADD_FAILURE() << file << ": " << length << " " << line;
  }
  pclose(pipe);
  return count;
}

TEST(InstructionLengthTest, AsObjdumpSays) {
  if (std::system("objdump --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no objdump";
  const char* files = std::getenv("PYLAUNCH_DISASSEMBLE");
  // The C library has vector functions of all kinds.
  EXPECT_GT(Compare(files != nullptr ? files : "/lib/x86_64-linux-gnu/libc.so.6"), 100'000u);
}

TEST(InstructionLengthTest, WhatDoesNotEndIsNone) {
  const uint8_t code[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8};  // mov $..., %rax
  EXPECT_EQ(InstructionLength(code, code + sizeof code), sizeof code);
  for (size_t size = 0; size < sizeof code; ++size) {
    EXPECT_EQ(InstructionLength(code, code + size), 0u) << size;
  }
  const uint8_t address[] = {0x8b, 0x84, 0x24, 1, 2, 3, 4};  // mov 0x4030201(%rsp), %eax
  EXPECT_EQ(InstructionLength(address, address + sizeof address), sizeof address);
  for (size_t size = 0; size < sizeof address; ++size) {
    EXPECT_EQ(InstructionLength(address, address + size), 0u) << size;
  }
}

int FunctionOfThisTest(int value) { return value * 3 + std::rand(); }

TEST(FunctionBoundsTest, AFunctionIsFoundFromWithin) {
  const auto* begin = reinterpret_cast<const uint8_t*>(&FunctionOfThisTest);
  struct Found {
    const uint8_t* at;
    std::optional<FunctionBounds> bounds;
  } inside = {begin + 5, {}}, outside = {reinterpret_cast<const uint8_t*>(&inside), {}};
  for (Found* found : {&inside, &outside}) {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
          auto* found = static_cast<Found*>(data);
          if (!found->bounds) found->bounds = FunctionAt(*info, found->at);
          return 0;
        },
        found);
  }
  ASSERT_TRUE(inside.bounds);
  EXPECT_EQ(inside.bounds->begin, begin);
  EXPECT_GT(inside.bounds->end, begin + 5);
  EXPECT_FALSE(outside.bounds);
}

}  // namespace
}  // namespace pylaunch::engine
