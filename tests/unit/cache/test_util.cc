#include "test_util.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "cache/archive.h"

namespace pylaunch::cache {
namespace {

struct stat StatOf(const std::string& path) {
  struct stat st;
  EXPECT_EQ(stat(path.c_str(), &st), 0) << path;
  return st;
}

}  // namespace

TempFolder::TempFolder() {
  std::string path = testing::TempDir() + "pylaunch-cache-XXXXXX";
  path_ = mkdtemp(path.data());
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void WriteAll(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), bytes.size());
}

void Age(const std::string& path, int64_t seconds) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const timespec then = {.tv_sec = now.tv_sec - seconds, .tv_nsec = now.tv_nsec};
  const timespec times[2] = {then, then};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0) << path;
}

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

std::vector<std::string> TempFilesOf(const std::string& archive) {
  std::vector<std::string> temps = NamesIn(FolderOf(archive));
  std::erase_if(temps, [&](const auto& name) { return !IsTempNameFor(name, BaseOf(archive)); });
  return temps;
}

BuildKey TestKey() {
  return {.python = "3.11.7 (main, Jan  1 2024, 00:00:00) [GCC 12.2.0]",
          .environment = "/venv",
          .magic = 0x0a0d0da7,
          .optimize = 0};
}

std::string CodeOf(int seed, size_t size) {
  std::string code = "\xe3 code " + std::to_string(seed) + ": ";
  uint32_t state = 2654435761u * static_cast<uint32_t>(seed + 1);
  while (code.size() < size) {
    state = state * 1664525u + 1013904223u;
    code += "LOAD_" + std::to_string(state >> 22) + " ";
  }
  code.resize(size);
  return code;
}

std::string PycOf(std::string_view code, const SourceStamp& stamp, uint32_t magic) {
  const uint32_t fields[4] = {magic, 0, static_cast<uint32_t>(stamp.mtime_ns / 1'000'000'000),
                              static_cast<uint32_t>(stamp.size)};
  std::string pyc(reinterpret_cast<const char*>(fields), sizeof fields);
  return pyc.append(code);
}

ModuleRecord MakeModule(const TempFolder& folder, const std::string& name, int seed, size_t size) {
  ModuleRecord module;
  module.path = folder / (name + ".py");
  module.pyc_path = folder / (name + ".pyc");
  WriteAll(module.path, "# source of " + name + " " + std::to_string(seed) + "\n");
  Age(module.path, 60);
  module.stamp = SourceStampOf(StatOf(module.path));
  module.read_at_ns = PosixFileEnv().NowNs();
  WriteAll(module.pyc_path, PycOf(CodeOf(seed, size), module.stamp, TestKey().magic));
  return module;
}

FolderRecord MakeFolder(const TempFolder& folder, const std::string& name,
                        const std::vector<std::string>& names) {
  FolderRecord record;
  record.path = folder / name;
  std::filesystem::create_directory(record.path);
  for (const std::string& file : names) WriteAll(record.path + "/" + file, "");
  record.stamp = FolderStampOf(StatOf(record.path));
  record.read_at_ns = record.stamp.ctime_ns + kRacyWindowNs + 1;
  record.names = names;
  return record;
}

SealJob MakeJob(const std::string& archive, std::vector<ModuleRecord> modules,
                std::vector<FolderRecord> folders) {
  SealJob job;
  job.archive_path = archive;
  job.key = TestKey();
  job.modules = std::move(modules);
  job.folders = std::move(folders);
  return job;
}

SealOutcome SealOk(const SealJob& job) {
  auto outcome = Seal(PosixFileEnv(), job);
  if (!outcome) {
    ADD_FAILURE() << outcome.error().message;
    return {};
  }
  return *outcome;
}

std::string CodeIn(const std::string& archive, const std::string& path) {
  auto reader = Archive::Open(PosixFileEnv(), archive, TestKey());
  if (!reader) {
    ADD_FAILURE() << reader.error().message;
    return "";
  }
  const auto module = (*reader)->FindModule(path);
  if (!module) {
    ADD_FAILURE() << path << " is not in " << archive;
    return "";
  }
  std::string code;
  auto read = module->in->ReadCode(module->entry, &code);
  if (!read) {
    ADD_FAILURE() << read.error().message;
    return "";
  }
  return code;
}

bool Has(const std::string& archive, const std::string& path) {
  auto reader = Archive::Open(PosixFileEnv(), archive, TestKey());
  return reader && (*reader)->FindModule(path).has_value();
}

}  // namespace pylaunch::cache
