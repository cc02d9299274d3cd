// Times what every start pays: opening an archive of the size that transformers makes, finding,
// reading. Not a test.

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

constexpr int kModules = 5000, kFolders = 1000, kNames = 50;
constexpr size_t kCode = 28'000;  // 86 MB in 3,089 code objects.

std::string ModulePath(int i) {
  return "/home/user/project/.venv/lib/python3.11/site-packages/transformers/models/m" +
         std::to_string(i) + "/modeling.py";
}
std::string FolderPath(int i) {
  return "/home/user/project/.venv/lib/python3.11/site-packages/transformers/models/m" +
         std::to_string(i);
}

const std::string& Archive() {
  static TempFolder* const folder = new TempFolder;
  static const std::string path = [] {
    const std::string path = *folder / "a.pla";
    auto writer = *ArchiveWriter::Create(PosixFileEnv(), path, TestKey());
    for (int i = 0; i < kModules; ++i) {
      (void)writer->AddModule(ModulePath(i), {.mtime_ns = i, .size = 1, .ctime_ns = i, .inode = 1},
                              {}, CodeOf(i, kCode));
    }
    for (int i = 0; i < kFolders; ++i) {
      std::vector<std::string> names;
      for (int n = 0; n < kNames; ++n) names.push_back("module_" + std::to_string(n) + ".py");
      writer->AddFolder(FolderPath(i), {}, std::move(names));
    }
    (void)writer->Finish();
    return path;
  }();
  return path;
}

std::unique_ptr<ArchiveReader> Reader() {
  return *ArchiveReader::Open(PosixFileEnv(), Archive(), TestKey());
}

void BM_Open(benchmark::State& state) {
  Archive();
  for (auto _ : state) benchmark::DoNotOptimize(Reader());
}
BENCHMARK(BM_Open);

void BM_OpenAnyWithIndexChecksum(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(*ArchiveReader::OpenAny(PosixFileEnv(), Archive()));
  }
}
BENCHMARK(BM_OpenAnyWithIndexChecksum);

// The first look-ups of a process, page faults and all.
void BM_OpenAndFind(benchmark::State& state) {
  Archive();
  for (auto _ : state) {
    const auto reader = Reader();
    for (int i = 0; i < state.range(0); ++i) {
      benchmark::DoNotOptimize(reader->FindModule(ModulePath(i * 7 % kModules)));
    }
  }
}
BENCHMARK(BM_OpenAndFind)->Arg(30)->Arg(3000);

void BM_FindModule(benchmark::State& state) {
  const auto reader = Reader();
  std::vector<std::string> paths;
  for (int i = 0; i < kModules; ++i) paths.push_back(ModulePath(i));
  size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(reader->FindModule(paths[i++ % paths.size()]));
}
BENCHMARK(BM_FindModule);

void BM_FindFolder(benchmark::State& state) {
  const auto reader = Reader();
  std::vector<std::string> paths;
  for (int i = 0; i < kFolders; ++i) paths.push_back(FolderPath(i));
  size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(reader->FindFolder(paths[i++ % paths.size()]));
}
BENCHMARK(BM_FindFolder);

void BM_Contains(benchmark::State& state) {
  const auto reader = Reader();
  const auto folder = *reader->FindFolder(FolderPath(3));
  for (auto _ : state) benchmark::DoNotOptimize(folder.names.Contains("module_17.py"));
}
BENCHMARK(BM_Contains);

void BM_ReadCode28k(benchmark::State& state) {
  const auto reader = Reader();
  std::string code;
  uint32_t i = 0;
  for (auto _ : state) {
    (void)reader->ReadCode(reader->module(i++ % kModules), &code);
    benchmark::DoNotOptimize(code.data());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * kCode);
}
BENCHMARK(BM_ReadCode28k);

}  // namespace
}  // namespace pylaunch::cache

BENCHMARK_MAIN();
