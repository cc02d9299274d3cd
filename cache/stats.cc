#include "cache/stats.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <vector>

#include "cache/archive_reader.h"
#include "cache/format.h"

namespace pylaunch::cache {
namespace {

double MiB(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

void PrintArchive(const std::string& path, const ArchiveReader& reader, int64_t now_ns) {
  uint64_t packed = 0, raw = 0;
  for (uint32_t i = 0; i < reader.module_count(); ++i) {
    ModuleEntry entry = reader.module(i);
    packed += entry.frame_size;
    raw += entry.raw_size;
  }
  std::printf("%s\n", path.c_str());
  std::printf("  for      %.*s\n", static_cast<int>(reader.key_text().size()),
              reader.key_text().data());
  std::printf("  modules  %" PRIu32 " (%.1f MiB of bytecode in %.1f MiB)\n", reader.module_count(),
              MiB(raw), MiB(packed));
  std::printf("  folders  %" PRIu32 "\n", reader.folder_count());
  std::printf("  file     %.1f MiB, written %" PRId64 " s ago\n", MiB(reader.file_size()),
              (now_ns - reader.created_ns()) / 1'000'000'000);
}

}  // namespace

uint32_t FormatVersion() { return format::kVersion; }

int PrintStats(FileEnv& env, const std::string& folder) {
  if (folder.empty()) {
    std::puts("no cache folder: neither --cache, XDG_CACHE_HOME nor HOME says where");
    return 0;
  }
  auto names = env.ListFolder(folder);
  std::vector<std::string> archives;
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    if (name.ends_with(".pla")) archives.push_back(name);
  }
  std::sort(archives.begin(), archives.end());
  if (archives.empty()) std::printf("no archive in %s\n", folder.c_str());
  int status = 0;
  for (const std::string& name : archives) {
    std::string path = folder + "/" + name;
    auto reader = ArchiveReader::OpenAny(env, path);
    if (reader) {
      PrintArchive(path, **reader, env.NowNs());
    } else {
      std::printf("%s\n  unusable: %s\n", path.c_str(), reader.error().message.c_str());
      status = 1;
    }
  }
  return status;
}

}  // namespace pylaunch::cache
