#ifndef PYLAUNCH_TESTS_UNIT_CACHE_TEST_UTIL_H_
#define PYLAUNCH_TESTS_UNIT_CACHE_TEST_UTIL_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cache/file_env.h"
#include "cache/seal.h"
#include "cache/stamp.h"

namespace pylaunch::cache {

// A folder of its own for each test, gone after it.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string ReadAll(const std::string& path);
void WriteAll(const std::string& path, std::string_view bytes);
// Sets mtime (not ctime) `seconds` back from now.
void Age(const std::string& path, int64_t seconds);
std::vector<std::string> NamesIn(const std::string& folder);
// Those of `archive`'s writers.
std::vector<std::string> TempFilesOf(const std::string& archive);

BuildKey TestKey();
// Compressible, different for each `seed`.
std::string CodeOf(int seed, size_t size = 600);
// As CPython would write it.
std::string PycOf(std::string_view code, const SourceStamp& stamp, uint32_t magic);

// A source of a minute's age with a right .pyc beside it, as a program would report it.
ModuleRecord MakeModule(const TempFolder& folder, const std::string& name, int seed,
                        size_t size = 600);
// A new folder with these files in it; read_at_ns is late enough for its ctime, which is now.
FolderRecord MakeFolder(const TempFolder& folder, const std::string& name,
                        const std::vector<std::string>& names);

SealJob MakeJob(const std::string& archive, std::vector<ModuleRecord> modules,
                std::vector<FolderRecord> folders = {});
SealOutcome SealOk(const SealJob& job);

// The code that `archive` gives for `path`; fails the test, and gives "", if it gives none.
std::string CodeIn(const std::string& archive, const std::string& path);
bool Has(const std::string& archive, const std::string& path);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_TESTS_UNIT_CACHE_TEST_UTIL_H_
