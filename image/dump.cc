#include "image/dump.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <tuple>

#include "image/own_stack.h"
#include "image/vdso.h"

namespace pylaunch::image {
namespace {

// Holes of the image file cost nothing but page tables; every mapping costs a system call at each
// restore, and the kernel time at its end. So nearby runs become one, with what is between them.
// Those of neighbouring regions, too: a library's data and what follows.
constexpr uint64_t kJoinEmpty = 64;
constexpr uint64_t kJoinFile = 16;
constexpr uint64_t kChunk = uint64_t{2} << 20;  // x86_64: what one entry of a page directory maps.

bool IsZeroPage(uint64_t page) {
  const auto* words = reinterpret_cast<const uint64_t*>(page * kPage);
  for (uint64_t i = 0; i < kPage / sizeof(uint64_t); ++i) {
    if (words[i] != 0) return false;
  }
  return true;
}

class Dumper {
 public:
  Dumper(const DumpContext& context, int fd, std::pmr::memory_resource* memory)
      : context_(context), fd_(fd), memory_(memory), pieces_(memory), paths_(memory), why_(memory) {
    header_ = context.header;
  }

  bool Run(std::pmr::vector<std::pmr::string>* files) {
    const std::pmr::vector<Region> regions = ReadRegions(memory_, /*traits=*/true);
    if (regions.empty()) return Refuse("/proc/self/smaps cannot be read", "");
    TellMapped(regions);
    for (const Region& region : regions) {
      if (!Add(region, files)) return false;
    }
    // One open(2) a file.
    std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) {
      return std::tie(a.kind, a.path, a.address) < std::tie(b.kind, b.path, b.address);
    });
    return Write();
  }

  std::pmr::string TakeReason() { return std::move(why_); }

 private:
  bool Refuse(std::string_view what, std::string_view which) {
    why_ = what;
    why_ += which;
    return false;
  }

  void TellMapped(const std::pmr::vector<Region>& regions) const {
    std::pmr::vector<ClockSearch::Bounds> mapped(memory_);
    for (const Region& region : regions) mapped.push_back({region.start, region.end});
    context_.clocks->SetMapped(std::move(mapped));
  }

  bool Add(const Region& region, std::pmr::vector<std::pmr::string>* files) {
    if (region.kind == Region::Kind::kVsyscall || region.start == context_.scratch) return true;
    if (region.kind == Region::Kind::kKernelPages) {
      if (header_.special_count == kMaxSpecial) return Refuse("unknown kernel pages", "");
      header_.special[header_.special_count++] = {region.start, region.size()};
      return true;
    }
    if (region.kind == Region::Kind::kStack) return AddPrivate(region);
    if (region.end == context_.stack_end) return AddStack();
    if (const std::string_view why = WhyNotAgain(region); !why.empty()) {
      return Refuse(why, region.path);
    }
    const bool file = region.kind == Region::Kind::kFile;
    if (file && (files->empty() || files->back() != region.path)) files->push_back(region.path);
    if (!region.shared) return AddPrivate(region);
    // What other processes see of it would be theirs; so only what nobody writes.
    AddFile(region, region.start, region.end);
    return true;
  }

  Piece At(PieceKind kind, const Region& region, uint64_t first, uint64_t last) const {
    Piece piece = {};
    piece.kind = kind;
    piece.protection = static_cast<uint32_t>(region.protection);
    piece.traits = region.traits;
    piece.address = first;
    piece.size = last - first;
    return piece;
  }

  uint32_t Path(const Region& region) {
    const std::string_view last(paths_.data() + last_path_);
    if (paths_.empty() || last != region.path) {
      last_path_ = paths_.size();
      paths_ += region.path;
      paths_ += '\0';
    }
    return static_cast<uint32_t>(last_path_);
  }

  void AddFile(const Region& region, uint64_t first, uint64_t last) {
    Piece piece = At(PieceKind::kFile, region, first, last);
    piece.offset = region.offset + (first - region.start);
    piece.path = Path(region);
    piece.shared = region.shared ? 1 : 0;
    piece.inode = region.inode;
    if (!pieces_.empty() && GoesOn(piece, pieces_.back())) {
      pieces_.back().size += piece.size;
      pieces_.back().protection |= piece.protection;
    } else {
      pieces_.push_back(piece);
    }
  }

  // A library's headers, code and constants are one mapping then, all of it executable, as linkers
  // laid it out before "-z separate-code" (ld(1), 2018): a third fewer mappings in a process with
  // many libraries.
  static bool GoesOn(const Piece& piece, const Piece& last) {
    constexpr uint32_t kKept = PROT_WRITE | PROT_READ;
    return last.kind == PieceKind::kFile && last.path == piece.path &&
           last.address + last.size == piece.address && last.offset + last.size == piece.offset &&
           last.shared == piece.shared && last.traits == piece.traits &&
           (last.protection & kKept) == PROT_READ && (piece.protection & kKept) == PROT_READ;
  }

  bool AddStack() {
    Region region(memory_);
    region.protection = PROT_READ | PROT_WRITE;
    const uint64_t used = context_.stack_used & ~(kPage - 1);
    Piece piece = At(PieceKind::kStack, region, used - kOwnStackTop, context_.stack_end);
    piece.copy_address = used;
    piece.copy_size = context_.stack_end - used;
    pieces_.push_back(piece);
    return true;
  }

  bool AddPrivate(const Region& region) {
    if ((region.traits & (kWipedOnFork | kDroppable)) != 0) return AddWiped(region);
    const bool file = region.kind == Region::Kind::kFile;
    std::pmr::vector<PageRun> runs(memory_), guards(memory_);
    if (!ReadOwnPages(region.start, region.end, &runs, &guards)) {
      return Refuse("/proc/self/pagemap cannot be read", "");
    }
    if (!runs.empty() && !MakeReadable(region)) return Refuse("memory that cannot be read", "");
    if (!file) DropZeroPages(&runs);
    guards.push_back({region.end / kPage, region.end / kPage});
    uint64_t at = region.start / kPage;
    for (const PageRun& guard : guards) {
      AddBetween(region, {at, guard.first}, runs);
      AddGuard(region, guard);
      at = guard.last;
    }
    return true;
  }

  // Its pages of `whole`, none of which is a guard; `runs`: the process's own.
  void AddBetween(const Region& region, const PageRun& whole,
                  const std::pmr::vector<PageRun>& all_runs) {
    if (whole.first == whole.last) return;
    const bool file = region.kind == Region::Kind::kFile;
    std::pmr::vector<PageRun> runs(memory_);
    for (const PageRun& run : all_runs) {
      if (whole.first <= run.first && run.last <= whole.last) runs.push_back(run);
    }
    JoinRuns(file ? kJoinFile : kJoinEmpty,
             {whole.first, std::min(whole.last, ReadableEnd(region) / kPage)}, &runs);
    uint64_t at = whole.first * kPage;
    for (const PageRun& run : runs) {
      AddClean(region, at, run.first * kPage);
      AddOwn(region, run);
      at = run.last * kPage;
    }
    AddClean(region, at, whole.last * kPage);
  }

  void AddGuard(const Region& region, const PageRun& guard) {
    if (guard.first == guard.last) return;
    Region guarded(memory_);
    guarded = region;
    guarded.traits |= kGuard;
    AddClean(guarded, guard.first * kPage, guard.last * kPage);
  }

  // Empty in every forked child, whatever this one has put there since it was forked.
  bool AddWiped(const Region& region) {
    pieces_.push_back(At(PieceKind::kAnonymous, region, region.start, region.end));
    return true;
  }

  // Reading what lies beyond its file's end would raise SIGBUS.
  static uint64_t ReadableEnd(const Region& region) {
    if (region.kind != Region::Kind::kFile) return region.end;
    struct stat st;
    if (stat(region.path.c_str(), &st) != 0) return region.start;
    const uint64_t file_end = (static_cast<uint64_t>(st.st_size) + kPage - 1) & ~(kPage - 1);
    if (file_end <= region.offset) return region.start;
    return std::min(region.end, region.start + (file_end - region.offset));
  }

  // This process ends with the dump, so its own protections do not matter.
  static bool MakeReadable(const Region& region) {
    if ((region.protection & PROT_READ) != 0) return true;
    return mprotect(reinterpret_cast<void*>(region.start), region.size(), PROT_READ) == 0;
  }

  void DropZeroPages(std::pmr::vector<PageRun>* runs) {
    std::pmr::vector<PageRun> kept(memory_);
    for (const PageRun& run : *runs) {
      for (uint64_t page = run.first; page < run.last; ++page) {
        if (IsZeroPage(page)) continue;
        if (!kept.empty() && kept.back().last == page) {
          ++kept.back().last;
        } else {
          kept.push_back({page, page + 1});
        }
      }
    }
    *runs = std::move(kept);
  }

  void AddClean(const Region& region, uint64_t first, uint64_t last) {
    if (first == last) return;
    if (region.kind == Region::Kind::kFile) {
      AddFile(region, first, last);
    } else {
      pieces_.push_back(At(PieceKind::kAnonymous, region, first, last));
    }
  }

  // Executable pages are copied: the folder of images may be mounted noexec.
  void AddOwn(const Region& region, const PageRun& run) {
    const bool copy = (region.protection & PROT_EXEC) != 0;
    Piece piece = At(copy ? PieceKind::kCopy : PieceKind::kImage, region, run.first * kPage,
                     run.last * kPage);
    piece.copy_address = piece.address;
    piece.copy_size = piece.size;
    if (!pieces_.empty() && Continues(piece, pieces_.back())) {
      pieces_.back().size += piece.size;
      pieces_.back().copy_size += piece.size;
    } else {
      pieces_.push_back(piece);
    }
  }

  static bool Continues(const Piece& piece, const Piece& last) {
    return piece.kind == PieceKind::kImage && last.kind == PieceKind::kImage &&
           piece.protection == last.protection && piece.traits == last.traits &&
           piece.address == last.address + last.size;
  }

  static bool IsWritten(const Piece& piece) {
    return piece.kind == PieceKind::kImage || piece.kind == PieceKind::kCopy ||
           piece.kind == PieceKind::kStack;
  }

  // Returns where the file ends.
  uint64_t Place(uint64_t at) {
    for (Piece& piece : pieces_) {
      if (!IsWritten(piece)) continue;
      if (piece.copy_size >= kChunk) at += (piece.copy_address - at) % kChunk;
      piece.offset = at;
      at += piece.copy_size;
    }
    return at;
  }

  bool Write() {
    header_.piece_count = static_cast<uint32_t>(pieces_.size());
    header_.paths_offset = sizeof header_ + pieces_.size() * sizeof(Piece);
    const Vdso vdso = VdsoAt(header_.vdso);
    header_.vdso_offset = (header_.paths_offset + paths_.size() + 7) & ~uint64_t{7};
    header_.vdso_size = vdso.size;
    header_.data_offset = (header_.vdso_offset + vdso.size + kPage - 1) & ~(kPage - 1);
    header_.file_size = Place(header_.data_offset);
    const bool written = ftruncate(fd_, static_cast<off_t>(header_.file_size)) == 0 &&
                         WriteAt(sizeof header_, pieces_.data(), pieces_.size() * sizeof(Piece)) &&
                         WriteAt(header_.paths_offset, paths_.data(), paths_.size()) &&
                         WriteAt(header_.vdso_offset, vdso.bytes, vdso.size) &&
                         std::all_of(pieces_.begin(), pieces_.end(),
                                     [&](const Piece& p) { return WritePages(p); }) &&
                         WriteTimes() && WriteAt(0, &header_, sizeof header_);
    if (!written && why_.empty()) return Refuse("cannot be written: ", std::strerror(errno));
    return written;
  }

  // Which these are is known when all pages are written.
  bool WriteTimes() {
    const std::pmr::vector<uint64_t>& times = context_.clocks->movable();
    header_.times_offset = header_.file_size;
    header_.times_count = times.size();
    header_.file_size += times.size() * sizeof times[0];
    return WriteAt(header_.times_offset, times.data(), times.size() * sizeof times[0]);
  }

  // A chunk at a time, and what is empty of a chunk as well: page caches keep what was written at
  // once in large folios, if they can, and map these at once, where single pages are a fault for
  // sixteen and one entry after the other at the process's end.
  bool WritePages(const Piece& piece) {
    if (!IsWritten(piece)) return true;
    if (piece.copy_address != searched_end_) searched_ = piece.copy_address;
    searched_end_ = piece.copy_address + piece.copy_size;
    for (uint64_t done = 0; done < piece.copy_size;) {
      const uint64_t offset = piece.offset + done;
      const uint64_t size = std::min(piece.copy_size - done, kChunk - offset % kChunk);
      const uint64_t first = (piece.copy_address + done) / kPage;
      const bool writable = (piece.protection & PROT_WRITE) != 0;
      if (!WriteChunk(offset, first, first + size / kPage, writable)) return false;
      if (piece.kind == PieceKind::kImage) MapWritten(piece, done, size);
      done += size;
    }
    return true;
  }

  // Where that cannot be, the pages stay (sealed memory, too many mappings).
  void MapWritten(const Piece& piece, uint64_t done, uint64_t size) const {
    void* at = reinterpret_cast<void*>(piece.copy_address + done);
    // Readable: a secret that begins here may end in what comes next.
    (void)!mmap(at, size, static_cast<int>(piece.protection) | PROT_READ, MAP_PRIVATE | MAP_FIXED,
                fd_, static_cast<off_t>(piece.offset + done));
  }

  bool WriteChunk(uint64_t offset, uint64_t first, uint64_t last, bool writable) {
    uint64_t page = first;
    while (page < last && IsZeroPage(page)) ++page;
    if (page == last) return true;
    if (HoldsSecret(first, last)) return false;
    LookForTimes(first * kPage, last * kPage, writable);
    void* pages = reinterpret_cast<void*>(first * kPage);
    const uint64_t size = (last - first) * kPage;
    if (!WriteAt(offset, pages, size)) return false;
    if (context_.tight) LetGo(offset, size);
    return true;
  }

  // Waits for the disk: what is dirty, the kernel cannot take back.
  void LetGo(uint64_t offset, uint64_t size) const {
    sync_file_range(
        fd_, static_cast<off_t>(offset), static_cast<off_t>(size),
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(size), POSIX_FADV_DONTNEED);
  }

  // In these pages, or across their beginning.
  bool HoldsSecret(uint64_t first, uint64_t last) {
    const SecretSearch& secrets = *context_.secrets;
    if (secrets.empty()) return false;
    const uint64_t begin = std::max(searched_, first * kPage - secrets.overlap());
    const std::string_view found =
        secrets.FindIn(reinterpret_cast<const char*>(begin), last * kPage - begin);
    if (found.empty()) return false;
    why_ = "preloading has copied the value of ";
    why_ += found;
    why_ += ", a secret by its name; set it in the program, or let images hold it: --image-allow ";
    why_ += found;
    return true;
  }

  // Not in what earlier calls have left on the stack, below what is used of it.
  void LookForTimes(uint64_t first, uint64_t last, bool writable) const {
    const uint64_t used = context_.stack_used & ~uint64_t{7};
    if (first < used && used < last && last <= context_.stack_end) first = used;
    context_.clocks->LookIn(reinterpret_cast<const char*>(first), last - first, writable);
  }

  bool WriteAt(uint64_t offset, const void* data, uint64_t size) {
    const auto* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t n = pwrite(fd_, bytes, size, static_cast<off_t>(offset));
      if (n <= 0) return false;
      bytes += n;
      offset += static_cast<uint64_t>(n);
      size -= static_cast<uint64_t>(n);
    }
    return true;
  }

  const DumpContext& context_;
  const int fd_;
  std::pmr::memory_resource* const memory_;
  Header header_;
  std::pmr::vector<Piece> pieces_;
  std::pmr::string paths_;
  size_t last_path_ = 0;
  // What is written without a gap, from where to where.
  uint64_t searched_ = 0, searched_end_ = 0;
  std::pmr::string why_;
};

}  // namespace

std::pmr::string Dump(const DumpContext& context, int fd, std::pmr::memory_resource* memory,
                      std::pmr::vector<std::pmr::string>* files) {
  Dumper dumper(context, fd, memory);
  if (dumper.Run(files)) return std::pmr::string(memory);
  return dumper.TakeReason();
}

}  // namespace pylaunch::image
