#include "image/adoption.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string_view>
#include <vector>

#include "image/collection.h"
#include "image/content_proof.h"
#include "image/format.h"
#include "image/parallel.h"
#include "image/travel.h"

namespace pylaunch::image {
namespace {

// Whether a change of a file always sets its ctime there, in each boot. Others (squashfs, erofs,
// iso9660) have none and number their inodes in order, or are somebody else's whom nobody can ask
// (a network, FUSE, the layers of an overlay). Not in linux/magic.h: XFS (fs/xfs/libxfs), ZFS.
bool KeepsChangeTimes(const std::string& path) {
  constexpr uint32_t kXfs = 0x58465342, kZfs = 0x2fc12fc1;
  struct statfs fs;
  if (statfs(path.c_str(), &fs) != 0) return false;
  const auto type = static_cast<uint32_t>(fs.f_type);
  for (const uint32_t known : {uint32_t{EXT4_SUPER_MAGIC}, uint32_t{BTRFS_SUPER_MAGIC},
                               uint32_t{F2FS_SUPER_MAGIC}, uint32_t{TMPFS_MAGIC}, kXfs, kZfs}) {
    if (type == known) return true;
  }
  return false;
}

// Whether stamps that are the same prove that a file is. One thread.
class Stamps {
 public:
  // `same_rights`: who asks may do what the maker of the image could.
  Stamps(bool same_boot, bool same_rights) : same_boot_(same_boot), same_rights_(same_rights) {}
  bool Prove(const std::string& path, const FileState& state) {
    if (!same_rights_) return false;
    if (same_boot_) return true;
    const auto [at, is_new] = devices_.try_emplace(state.device, false);
    if (is_new) at->second = KeepsChangeTimes(path);
    return at->second;
  }

 private:
  const bool same_boot_, same_rights_;
  std::map<uint64_t, bool> devices_;
};

// Most of the time they wait for a disk.
void ForEach(size_t count, const std::function<bool(size_t)>& work) {
  constexpr size_t kMostThreads = 16, kWorthAThread = 32;
  InParallel(count, std::min(kMostThreads, count / kWorthAThread), work);
}

// The first thing that somebody found; many may look.
class Fault {
 public:
  bool Set(const std::string& words) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (words_.empty()) words_ = words;
    return false;
  }
  std::string Take() { return words_; }

 private:
  std::mutex mutex_;
  std::string words_;
};

constexpr char kChanged[] = " changed";

// `files` and `proofs`: of the key as it was made. What is so here stands in `files` afterwards.
std::string ProveFiles(const std::vector<ContentProof>& proofs, Stamps stamps,
                       std::vector<FileProof>* files) {
  Fault fault;
  std::vector<FileState> now(files->size());
  ForEach(files->size(), [&](size_t i) {
    const FileProof& file = (*files)[i];
    now[i] = AskedOf(file.path, file.link);
    const bool may_be = HasContent(file.state)
                            ? HasContent(now[i]) && now[i].size == file.state.size
                            : now[i] == file.state;
    return may_be || fault.Set(file.path + kChanged);
  });
  if (std::string why = fault.Take(); !why.empty()) return why;
  std::vector<size_t> unproved;
  for (size_t i = 0; i < files->size(); ++i) {
    const FileProof& file = (*files)[i];
    if (!HasContent(file.state)) continue;
    if (now[i] != file.state || !stamps.Prove(file.path, now[i])) unproved.push_back(i);
  }
  // The largest first, so that none is still read when all others are done.
  std::sort(unproved.begin(), unproved.end(),
            [&](size_t a, size_t b) { return now[a].size > now[b].size; });
  ForEach(unproved.size(), [&](size_t at) {
    const size_t i = unproved[at];
    const FileProof& file = (*files)[i];
    const bool same = ContentProofOf(file.path, file.link) == proofs[i] &&
                      AskedOf(file.path, file.link) == now[i];
    return same || fault.Set(file.path + kChanged);
  });
  for (size_t i = 0; i < files->size(); ++i) (*files)[i].state = now[i];
  return fault.Take();
}

// Their names are looked at, whatever their stamps say.
std::string ProveFolders(int64_t now_ns, std::vector<FolderProof>* folders) {
  Fault fault;
  ForEach(folders->size(), [&](size_t i) {
    FolderProof& made = (*folders)[i];
    FolderProof now = ProveFolder(made.path, now_ns, made.all);
    if (now.state.rights != made.state.rights) return fault.Set(made.path + kChanged);
    if (now.names != made.names) return fault.Set("the names in " + made.path + kChanged);
    made = std::move(now);
    return true;
  });
  return fault.Take();
}

bool IsLasting(const std::vector<FileProof>& files, int64_t started_ns) {
  return std::all_of(files.begin(), files.end(), [&](const FileProof& file) {
    return cache::IsProvable(std::max(file.state.ctime_ns, file.state.mtime_ns), started_ns);
  });
}

std::string ProveImage(const AdoptionQuery& query, Stamps stamps, FileState* now) {
  struct stat st;
  if (fstat(query.image, &st) != 0) return query.path + ": " + std::strerror(errno);
  *now = StateOf(st);
  if (*now == query.made.image && stamps.Prove(query.path, *now)) return "";
  return ContentHash(query.image) == query.made.content
             ? ""
             : query.path + " is damaged: it is not what was written";
}

Facts FactsHere(const Facts& made, const Facts& now) {
  Facts here = made;
  for (Fact& fact : here) {
    if (IsOfHost(fact.name) || IsOfRights(fact.name)) fact.value = ValueOf(now, fact.name);
  }
  return here;
}

// The paths of the files that an image maps, in the order in which the restorer opens them.
std::vector<std::string> MappedFiles(int image) {
  Header header;
  if (pread(image, &header, sizeof header, 0) != sizeof header || header.format != kFormat) {
    return {};
  }
  std::string table(header.data_offset, '\0');
  if (pread(image, table.data(), table.size(), 0) != static_cast<ssize_t>(table.size())) return {};
  const size_t end = sizeof header + header.piece_count * sizeof(Piece);
  std::vector<std::string> paths;
  uint32_t last = UINT32_MAX;
  for (size_t at = sizeof header; at < end && end <= table.size(); at += sizeof(Piece)) {
    Piece piece;
    std::memcpy(&piece, table.data() + at, sizeof piece);
    const uint64_t path = header.paths_offset + piece.path;
    if (piece.kind != PieceKind::kFile || piece.path == last || path >= table.size()) continue;
    last = piece.path;
    paths.emplace_back(table.c_str() + path);
  }
  return paths;
}

// As KeyHead::inodes has them; empty: the image's table cannot be read, or a file is not there.
std::string InodesHere(int image) {
  std::string inodes;
  for (const std::string& path : MappedFiles(image)) {
    struct stat st;
    if (stat(path.c_str(), &st) != 0) return "";
    std::array<char, 18> digits;
    std::snprintf(digits.data(), digits.size(), inodes.empty() ? "%lx" : ",%lx", st.st_ino);
    inodes += digits.data();
  }
  return inodes;
}

}  // namespace

Adoption Adopt(const AdoptionQuery& query) {
  Adoption adoption;
  Key& key = adoption.key;
  key = query.made;
  const auto same = [&](const char* name) {
    return ValueOf(key.facts, name) == ValueOf(query.now, name);
  };
  const Stamps stamps(same(kBoot), same(kUser) && same(kGroups) && same(kCapabilities));
  key.moved = !same(kBoot);
  key.facts = FactsHere(key.facts, query.now);
  std::vector<FileProof> files = UnpackProofs(key.files);
  std::string& why = adoption.why_not;
  if (DigestsId(key.files) != query.digests.proofs || files.size() != query.digests.files.size()) {
    why = query.path + ": its digests are another image's";
    return adoption;
  }
  why = ProveFiles(query.digests.files, stamps, &files);
  if (why.empty()) why = ProveFolders(query.started_ns, &key.folders);
  if (why.empty()) why = ProveImage(query, stamps, &key.image);
  if (!why.empty()) return adoption;
  adoption.lasting = IsLasting(files, query.started_ns);
  key.files = PackProofs(files);
  key.inodes = InodesHere(query.image);
  if (key.inodes.empty()) why = query.path + ": the files that it maps are not there";
  return adoption;
}

}  // namespace pylaunch::image
