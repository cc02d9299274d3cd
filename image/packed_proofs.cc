#include "image/packed_proofs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "cache/descriptor.h"
#include "cache/wire.h"
#include "image/parallel.h"

namespace pylaunch::image {
namespace {

// Measured on the 5,960 files of transformers: 16 to 512 make no difference, 1 and all do.
constexpr size_t kFilesWorthAFolder = 16;
// What one thread takes at a time: little enough that many can share what a slow disk has to tell.
constexpr size_t kMostFiles = 64;
constexpr size_t kMostOthers = 32;
constexpr char kBroken[] = "a list of files";

using Counts = std::map<std::string_view, size_t>;

// Empty at the end: "/a/b", "/a", ""; "a/b", "a", "".
std::string_view Parent(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "" : path.substr(0, slash);
}

// How many files are below each folder.
Counts CountBelow(const std::vector<FileProof>& files) {
  Counts counts;
  for (const FileProof& file : files) {
    for (std::string_view at = Parent(file.path); !at.empty(); at = Parent(at)) ++counts[at];
  }
  return counts;
}

// Empty: none that is worth it, or the path is a relative one.
std::string_view GroupOf(const std::string& path, const Counts& counts) {
  if (!path.starts_with('/')) return "";
  std::string_view at = Parent(path);
  while (!at.empty() && counts.at(at) < kFilesWorthAFolder) at = Parent(at);
  return at;
}

void WriteText(cache::WireWriter* out, std::string_view text) {
  out->Number<uint64_t>(text.size() + 1);
  out->Raw(text);
  out->Raw(std::string_view("", 1));
}

// Empty at the end of the bytes or where they are no text.
std::string_view ReadText(cache::WireReader* in) {
  uint64_t size;
  in->Number(&size);
  const std::string_view text = in->Raw(size);
  return text.ends_with('\0') ? text.substr(0, text.size() - 1) : std::string_view();
}

// Most files have no rights, and each start reads all of them.
constexpr uint8_t kLink = 1, kWithRights = 2;

void WriteState(cache::WireWriter* out, bool link, const FileState& state) {
  const bool rights = state.rights != cache::Rights();
  out->Number(static_cast<uint8_t>((link ? kLink : 0) | (rights ? kWithRights : 0)));
  out->Number<cache::StatProof>(state);
  if (rights) out->Number(state.rights);
}

FileState ReadState(cache::WireReader* in, bool* link) {
  uint8_t bits;
  in->Number(&bits);
  *link = (bits & kLink) != 0;
  FileState state;
  in->Number<cache::StatProof>(&state);
  if ((bits & kWithRights) != 0) in->Number(&state.rights);
  return state;
}

struct Index {
  uint32_t files = 0;
  uint32_t groups = 0;
};

// Where the groups begin; nothing: they cannot be read.
std::optional<std::vector<uint64_t>> BeginsOf(std::string_view packed) {
  cache::WireReader in(packed);
  Index index;
  in.Number(&index);
  std::vector<uint64_t> begins(std::min<size_t>(index.groups, packed.size()));
  for (uint64_t& begin : begins) in.Number(&begin);
  if (!in.ok()) return std::nullopt;
  return begins;
}

std::optional<std::string> ChangedInGroup(std::string_view bytes) {
  cache::WireReader in(bytes);
  const std::string_view folder = ReadText(&in);
  const bool full = folder.empty();  // Their paths are.
  const cache::Descriptor opened(full ? -1 : open(folder.data(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  uint64_t count;
  in.Number(&count);
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    const std::string_view path = ReadText(&in);
    bool link;
    const FileState state = ReadState(&in, &link);
    FileState now;
    struct stat st;
    if ((full || opened.ok()) && !path.empty() &&
        fstatat(full ? AT_FDCWD : opened.get(), path.data(), &st, link ? AT_SYMLINK_NOFOLLOW : 0) ==
            0) {
      now = AskedOf(st);
    }
    if (now != state) return std::string(folder) + (full ? "" : "/") + std::string(path);
  }
  if (!in.ok()) return kBroken;
  return std::nullopt;
}

size_t ThreadsFor(size_t files) {
  constexpr size_t kFilesWorthAThread = 512, kMostThreads = 4;
  const size_t processors = std::max(std::thread::hardware_concurrency(), 1u);
  return std::clamp(files / kFilesWorthAThread, size_t{1}, std::min(processors, kMostThreads));
}

}  // namespace

std::string PackProofs(const std::vector<FileProof>& files) {
  const Counts counts = CountBelow(files);
  std::map<std::string_view, std::vector<const FileProof*>> folders;
  for (const FileProof& file : files) folders[GroupOf(file.path, counts)].push_back(&file);
  std::vector<std::string> groups;
  for (const auto& [folder, below] : folders) {
    const size_t cut = folder.empty() ? 0 : folder.size() + 1;
    for (size_t first = 0; first < below.size(); first += kMostFiles) {
      const size_t count = std::min(kMostFiles, below.size() - first);
      cache::WireWriter out;
      WriteText(&out, folder);
      out.Number<uint64_t>(count);
      for (size_t i = first; i < first + count; ++i) {
        WriteText(&out, std::string_view(below[i]->path).substr(cut));
        WriteState(&out, below[i]->link, below[i]->state);
      }
      groups.push_back(out.Take());
    }
  }
  cache::WireWriter out;
  out.Number(static_cast<uint32_t>(files.size()));
  out.Number(static_cast<uint32_t>(groups.size()));
  uint64_t at = sizeof(Index) + groups.size() * sizeof(uint64_t);
  for (const std::string& group : groups) {
    out.Number(at);
    at += group.size();
  }
  for (const std::string& group : groups) out.Raw(group);
  return out.Take();
}

size_t CountProofs(std::string_view packed) {
  Index index;
  cache::WireReader(packed).Number(&index);
  return index.files;
}

std::vector<FileProof> UnpackProofs(std::string_view packed) {
  std::vector<FileProof> files;
  files.reserve(std::min(CountProofs(packed), packed.size()));
  const auto begins = BeginsOf(packed);
  for (const uint64_t begin : begins.value_or(std::vector<uint64_t>())) {
    cache::WireReader in(packed.substr(std::min<uint64_t>(packed.size(), begin)));
    const std::string_view folder = ReadText(&in);
    uint64_t count;
    in.Number(&count);
    for (uint64_t i = 0; i < count && in.ok(); ++i) {
      FileProof proof;
      const std::string_view path = ReadText(&in);
      proof.path =
          folder.empty() ? std::string(path) : std::string(folder).append("/").append(path);
      proof.state = ReadState(&in, &proof.link);
      files.push_back(std::move(proof));
    }
    if (!in.ok()) return {};
  }
  return files;
}

std::string FirstChanged(std::string_view packed, size_t others,
                         const std::function<std::string(size_t)>& change_of) {
  const auto known = BeginsOf(packed);
  if (!known) return kBroken;
  const std::vector<uint64_t>& begins = *known;
  std::mutex mutex;
  std::string file, other;
  const size_t batches = (others + kMostOthers - 1) / kMostOthers;
  InParallel(begins.size() + batches, ThreadsFor(CountProofs(packed)), [&](size_t i) {
    if (i < begins.size()) {
      const auto found = ChangedInGroup(packed.substr(std::min(packed.size(), begins[i])));
      if (!found) return true;
      std::lock_guard<std::mutex> lock(mutex);
      file = *found;
      return false;
    }
    const size_t first = (i - begins.size()) * kMostOthers;
    for (size_t at = first; at < std::min(others, first + kMostOthers); ++at) {
      const std::string found = change_of(at);
      if (found.empty()) continue;
      std::lock_guard<std::mutex> lock(mutex);
      other = found;
      return false;
    }
    return true;
  });
  return file.empty() ? other : file;
}

}  // namespace pylaunch::image
