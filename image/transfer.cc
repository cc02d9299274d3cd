#include "image/transfer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "cache/descriptor.h"
#include "cache/transfer.h"
#include "cache/wire.h"
#include "image/collection.h"
#include "image/digests.h"
#include "image/folder_lock.h"
#include "image/format.h"
#include "image/image_files.h"
#include "image/key.h"
#include "image/own_file.h"
#include "image/travel.h"

namespace pylaunch::image {
namespace {

using cache::ErrorCode;
using cache::MakeError;
using cache::Result;

constexpr size_t kBlockBytes = size_t{4} << 20;
constexpr size_t kMaxSmall = size_t{256} << 20;    // A key, or digests.
constexpr uint64_t kMaxImage = uint64_t{1} << 40;  // Most of it holes.
constexpr size_t kNameDigits = 16;

// Where in a file bytes of a block belong.
struct Extent {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// Bytes of a file that follow one another in a block, and where each piece of them belongs.
struct Pages {
  cache::Block block;
  std::vector<Extent> extents;
};

// ------------------------------------------------------------------------------------------ out

class Packer {
 public:
  explicit Packer(cache::ArchiveWriter* to) : to_(to) {}

  // False: error() says why.
  bool Add(std::string_view bytes, uint64_t at) {
    std::vector<Extent>& extents = next_.extents;
    if (!extents.empty() && extents.back().offset + extents.back().size == at) {
      extents.back().size += bytes.size();
    } else {
      extents.push_back({at, bytes.size()});
    }
    data_bytes_ += bytes.size();
    bytes_ += bytes;
    return bytes_.size() < kBlockBytes || Flush();
  }
  bool Flush() {
    if (bytes_.empty()) return true;
    auto block = to_->AddBlock(bytes_);
    if (!block) {
      error_ = block.error();
      return false;
    }
    next_.block = *block;
    done_.push_back(std::exchange(next_, {}));
    bytes_.clear();
    return true;
  }
  // Of a file of `size` bytes, all of which were added that are not zero.
  void WriteTo(uint64_t size, cache::WireWriter* table) const {
    table->Number(size);
    table->List(done_, [table](const Pages& pages) {
      table->Number(pages.block);
      table->List(pages.extents, [table](const Extent& extent) { table->Number(extent); });
    });
  }
  uint64_t data_bytes() const { return data_bytes_; }
  const cache::Error& error() const { return error_; }

 private:
  cache::ArchiveWriter* to_;
  std::string bytes_;
  Pages next_;
  std::vector<Pages> done_;
  uint64_t data_bytes_ = 0;
  cache::Error error_ = {ErrorCode::kIo, ""};
};

std::string NameOf(const std::string& image) {
  const std::string name(cache::BaseOf(image));
  return name.substr(0, name.size() - kImageSuffix.size());
}

bool IsOneUsersOnly(const Facts& facts, bool shared, const Facts& machine) {
  return !shared && ValueOf(facts, kUser) != ValueOf(machine, kUser);
}

// Why an image stays; empty if it goes.
std::string WhyLeftOut(const ImageSummary& image, const PackRequest& request,
                       const Facts& machine) {
  const Key& key = image.key;
  if (image.foreign) return "another user's";
  if (image.error) return image.error->message;
  if (IsOneUsersOnly(key.facts, key.shared, machine)) return "it is for another user";
  if (request.only_shared && !key.shared) return "it is for its maker alone";
  if (!image.Value(kAllowedSecrets).empty()) {
    return "it may hold values of secret variables (--image-allow)";
  }
  if (!key.boot.empty()) return "it is for this boot only: " + key.boot;
  const bool copied = image.difference == image.path + " changed";  // Its content is looked at.
  const bool stale =
      image.standing == cache::Standing::kStale || image.standing == cache::Standing::kDead;
  if (stale && !copied) return image.difference;
  return access(DigestsOf(image.path).c_str(), F_OK) == 0 ? ""
                                                          : DigestsOf(image.path) + " is not there";
}

// What of an image's three files is to be carried.
struct Source {
  cache::Descriptor image{-1};
  uint64_t size = 0;
  std::string key, digests;
};

// Why it is not what was written; empty: it is, and open.
std::string Open(cache::FileEnv& env, const std::string& path, Source* source) {
  struct stat st;
  source->image = OpenOwn(path, &st);
  if (!source->image.ok()) return std::strerror(errno);
  source->size = static_cast<uint64_t>(st.st_size);
  auto key = env.ReadFile(KeyOf(path), kMaxSmall);
  if (!key) return key.error().message;
  auto digests = env.ReadFile(DigestsOf(path), kMaxSmall);
  if (!digests) return digests.error().message;
  const auto parsed = Key::Parse(*key);
  const auto proofs = Digests::Parse(*digests);
  const bool whole = parsed && proofs && proofs->proofs == DigestsId(parsed->files) &&
                     ContentHash(source->image.get()) == parsed->content;
  source->key = std::move(*key);
  source->digests = std::move(*digests);
  return whole ? "" : "it is damaged: it is not what was written";
}

Result<void> Pack(const Source& source, cache::ArchiveWriter* to, cache::WireWriter* table,
                  uint64_t* data_bytes) {
  for (const std::string* bytes : {&source.key, &source.digests}) {
    Packer packer(to);
    if (!packer.Add(*bytes, 0) || !packer.Flush()) return tl::unexpected(packer.error());
    packer.WriteTo(bytes->size(), table);
  }
  Packer packer(to);
  const bool read = ForEachPage(
      source.image.get(), [&](std::string_view page, uint64_t at) { return packer.Add(page, at); });
  if (!read || !packer.Flush()) {
    cache::Error error = packer.error();
    if (error.message.empty()) error.message = std::string("image: ") + std::strerror(errno);
    return tl::unexpected(error);
  }
  packer.WriteTo(source.size, table);
  *data_bytes = packer.data_bytes();
  return {};
}

}  // namespace

Result<std::vector<Carried>> PackImages(cache::FileEnv& env, const PackRequest& request,
                                        cache::ArchiveWriter* to) {
  const std::string folder = request.cache_folder + "/" + kImagesFolder;
  FolderLock lock(folder);
  (void)lock.Take(/*wait=*/true);
  const auto found = Collect(env, folder, /*environment=*/nullptr, /*check=*/false);
  if (!found) return tl::unexpected(found.error());
  const Facts machine = MachineFacts();
  std::vector<Carried> images;
  std::vector<std::string> rows;
  for (const ImageSummary& image : found->images) {
    const bool known = !image.foreign && !image.error;
    if (known && image.Value(kPython) != request.python) continue;
    Carried carried;
    carried.name = NameOf(image.path);
    carried.bytes = image.bytes;
    Source source;
    carried.why = WhyLeftOut(image, request, machine);
    if (carried.why.empty()) carried.why = Open(env, image.path, &source);
    carried.left_out = !carried.why.empty();
    if (!carried.left_out) {
      cache::WireWriter row;
      row.String(carried.name);
      if (auto done = Pack(source, to, &row, &carried.data_bytes); !done) {
        return tl::unexpected(done.error());
      }
      rows.push_back(row.Take());
    }
    images.push_back(std::move(carried));
  }
  cache::WireWriter table;
  table.Number(kFormat);
  table.List(rows, [&table](const std::string& row) { table.Raw(row); });
  if (!rows.empty()) to->AddSection(cache::kCargoTag, table.Take());
  return images;
}

// ------------------------------------------------------------------------------------------- in

namespace {

struct PackedFile {
  uint64_t size = 0;
  std::vector<Pages> parts;

  uint64_t data_bytes() const {
    uint64_t sum = 0;
    for (const Pages& pages : parts) sum += pages.block.raw_size;
    return sum;
  }
};

void Read(cache::WireReader* in, PackedFile* file) {
  in->Number(&file->size);
  in->List(&file->parts, [in](Pages* pages) {
    in->Number(&pages->block);
    in->List(&pages->extents, [in](Extent* extent) { in->Number(extent); });
  });
}

// Whether all pieces lie one behind the other within the file, and fill their blocks.
bool IsInOrder(const PackedFile& file, uint64_t most) {
  uint64_t end = 0;
  for (const Pages& pages : file.parts) {
    uint64_t filled = 0;
    for (const Extent& extent : pages.extents) {
      if (extent.offset < end || extent.offset > file.size || extent.size == 0 ||
          extent.size > file.size - extent.offset) {
        return false;
      }
      end = extent.offset + extent.size;
      filled += extent.size;
    }
    if (filled != pages.block.raw_size || filled > kMaxSmall) return false;
  }
  return file.size > 0 && file.size <= most;
}

// "0123456789abcdef-0123456789abcdef": no path leads out of the folder.
bool IsName(std::string_view name) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  return name.size() == 2 * kNameDigits + 1 && name[kNameDigits] == '-' &&
         name.substr(0, kNameDigits).find_first_not_of(kDigits) == name.npos &&
         name.substr(kNameDigits + 1).find_first_not_of(kDigits) == name.npos;
}

// The name that an image of this key has.
std::string NameFor(const Key& key) {
  Facts command;
  for (const char* name : {kPython, kPythonOptions, kProgramKind, kProgramFolder, kPreloadPlan}) {
    command.push_back({name, ValueOf(key.facts, name)});
  }
  return NameOf(FilesFor("", command, key.facts).image);
}

using Piece = std::function<Result<void>(uint64_t at, std::string_view bytes)>;

Result<void> ForEachPiece(const cache::ArchiveReader& from, const PackedFile& file,
                          const Piece& piece) {
  std::string bytes;
  for (const Pages& pages : file.parts) {
    if (auto read = from.ReadBlock(pages.block, &bytes); !read) return read;
    std::string_view rest = bytes;
    for (const Extent& extent : pages.extents) {
      if (auto done = piece(extent.offset, rest.substr(0, extent.size)); !done) return done;
      rest.remove_prefix(extent.size);
    }
  }
  return {};
}

Result<std::string> Small(const cache::ArchiveReader& from, const PackedFile& file) {
  std::string whole(file.size, '\0');
  auto done = ForEachPiece(from, file, [&](uint64_t at, std::string_view bytes) -> Result<void> {
    whole.replace(at, bytes.size(), bytes);
    return {};
  });
  if (!done) return tl::unexpected(done.error());
  return whole;
}

// Whether the file at `path` is the image that `key` was written for.
bool IsImageOf(const std::string& path, const Key& key) {
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  Header header;
  struct stat st;
  if (!file.ok() || fstat(file.get(), &st) != 0 ||
      pread(file.get(), &header, sizeof header, 0) != sizeof header) {
    return false;
  }
  const bool ours = std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 &&
                    header.format == kFormat &&
                    header.file_size == static_cast<uint64_t>(st.st_size) &&
                    header.data_offset == key.table_size && key.table_size <= header.file_size;
  return ours && ContentHash(file.get()) == key.content && TableIsWhole(file.get(), key);
}

}  // namespace

struct Arrivals::Packed {
  std::string name;
  PackedFile key_file, digests_file, image;
  Key key;
  std::string digests;
  Carried carried;
};

struct Arrivals::Arrival {
  std::string temp;  // Of the image; empty once it was published.
  std::string path;
  Key key;
  std::string digests;
};

Arrivals::Arrivals(cache::FileEnv& env, std::string cache_folder, std::string python, bool replace)
    : env_(env),
      cache_folder_(std::move(cache_folder)),
      folder_(cache_folder_ + "/" + kImagesFolder),
      python_(std::move(python)),
      replace_(replace) {}

Arrivals::~Arrivals() {
  for (const Arrival& arrival : arrivals_) {
    if (!arrival.temp.empty()) (void)env_.Unlink(arrival.temp);
  }
}

tl::unexpected<cache::Error> Arrivals::Damaged(const std::string& what) const {
  return MakeError(ErrorCode::kCorrupt, "damaged archive: " + what);
}

bool Arrivals::HoldsAlready(const std::string& image) const {
  const auto bytes = env_.ReadFile(KeyOf(image), kMaxSmall);
  if (replace_ || !bytes || !Key::Parse(*bytes)) return false;
  const cache::Standing standing = Judge(image, /*gone_is_dead=*/false);
  return standing == cache::Standing::kAlive || standing == cache::Standing::kUnknown;
}

cache::Result<void> Arrivals::Unpack(const cache::ArchiveReader& from) {
  const std::optional<std::string_view> table = from.Section(cache::kCargoTag);
  if (!table) return {};
  cache::WireReader in(*table);
  uint32_t format;
  in.Number(&format);
  if (in.ok() && format != kFormat) {
    return MakeError(ErrorCode::kForeign, "its images are of format " + std::to_string(format) +
                                              ", and this pylaunch has " + std::to_string(kFormat));
  }
  std::vector<Packed> all;
  in.List(&all, [&in](Packed* packed) {
    in.String(&packed->name);
    Read(&in, &packed->key_file);
    Read(&in, &packed->digests_file);
    Read(&in, &packed->image);
  });
  if (!in.AtEnd()) return Damaged("its list of images");
  const Facts machine = MachineFacts();
  std::set<std::string> names;
  for (Packed& packed : all) {
    if (!names.insert(packed.name).second) return Damaged("its list of images");
    if (auto done = TakeKey(from, machine, &packed); !done) return done;
  }
  if (auto room = MakeRoom(all); !room) return room;
  for (const Packed& packed : all) {
    if (auto done = UnpackOne(from, packed); !done) return done;
  }
  return {};
}

cache::Result<void> Arrivals::TakeKey(const cache::ArchiveReader& from, const Facts& machine,
                                      Packed* packed) const {
  const std::string& name = packed->name;
  if (!IsName(name) || !IsInOrder(packed->key_file, kMaxSmall) ||
      !IsInOrder(packed->digests_file, kMaxSmall) || !IsInOrder(packed->image, kMaxImage)) {
    return Damaged("its list of images");
  }
  auto key_bytes = Small(from, packed->key_file);
  auto digest_bytes = Small(from, packed->digests_file);
  if (!key_bytes || !digest_bytes) return Damaged("the key of image " + name);
  auto key = Key::Parse(std::move(*key_bytes));
  const auto digests = Digests::Parse(*digest_bytes);
  if (!key || !digests || digests->proofs != DigestsId(key->files) || NameFor(*key) != name) {
    return Damaged("the key of image " + name);
  }
  if (ValueOf(key->facts, kPython) != python_) {
    return MakeError(ErrorCode::kForeign,
                     "an image for " + ValueOf(key->facts, kPython) + ", and this is " + python_);
  }
  Carried& carried = packed->carried;
  carried.name = name;
  carried.bytes = packed->image.size;
  carried.data_bytes = packed->image.data_bytes();
  carried.left_out = IsOneUsersOnly(key->facts, key->shared, machine);
  carried.why = carried.left_out ? "it is for another user" : WhyNotHere(*key, machine);
  carried.kept = !carried.left_out && HoldsAlready((folder_ + "/" + name).append(kImageSuffix));
  packed->key = std::move(*key);
  packed->digests = std::move(*digest_bytes);
  return {};
}

// The folder; and nothing is begun that the disk cannot hold.
cache::Result<void> Arrivals::MakeRoom(const std::vector<Packed>& all) const {
  uint64_t needed = 0;
  for (const Packed& packed : all) {
    if (packed.carried.left_out || packed.carried.kept) continue;
    needed += packed.carried.data_bytes + packed.key_file.size + packed.digests_file.size;
  }
  if (needed == 0) return {};
  if (auto made = env_.MakeFolders(folder_); !made) return made;
  struct statvfs fs;
  if (statvfs(folder_.c_str(), &fs) != 0) return {};
  const uint64_t free = uint64_t{fs.f_bavail} * fs.f_frsize;
  if (free >= needed) return {};
  constexpr int kMiBBits = 20;
  return MakeError(ErrorCode::kIo, folder_ + ": no room: its images take " +
                                       std::to_string((needed >> kMiBBits) + 1) +
                                       " MiB, and there are " + std::to_string(free >> kMiBBits) +
                                       " MiB");
}

cache::Result<void> Arrivals::WritePages(const cache::ArchiveReader& from, const Packed& packed,
                                         cache::WritableFile* to) const {
  uint64_t end = 0;
  auto done =
      ForEachPiece(from, packed.image, [&](uint64_t at, std::string_view bytes) -> Result<void> {
        end = at + bytes.size();
        return to == nullptr ? Result<void>() : to->WriteAt(at, bytes);
      });
  if (!done && done.error().code == ErrorCode::kCorrupt) return Damaged("image " + packed.name);
  if (!done || to == nullptr) return done;
  // What ends with a hole gets its length.
  if (end < packed.image.size) done = to->WriteAt(packed.image.size - 1, {"", 1});
  return done ? to->Sync() : done;
}

cache::Result<void> Arrivals::UnpackOne(const cache::ArchiveReader& from, const Packed& packed) {
  const Carried& carried = packed.carried;
  images_.push_back(carried);
  // What stays out is checked, too.
  if (carried.left_out || carried.kept) return WritePages(from, packed, nullptr);
  const std::string path = (folder_ + "/" + packed.name).append(kImageSuffix);
  auto file = env_.CreateTemp(path);
  if (!file) return tl::unexpected(file.error());
  arrivals_.push_back({(*file)->path(), path, packed.key, packed.digests});
  if (auto done = WritePages(from, packed, file->get()); !done) return done;
  if (!IsImageOf((*file)->path(), packed.key)) return Damaged("image " + packed.name);
  return {};
}

cache::Result<void> Arrivals::PublishOne(Arrival* arrival) {
  const std::string &image = arrival->path, key = KeyOf(image), digests = DigestsOf(image);
  if (arrival->key.shared) {
    for (const std::string& path : {cache_folder_, folder_, arrival->temp}) LetOthersRead(path);
  }
  // The old key is for the old image; in between there is none.
  (void)env_.Unlink(key);
  (void)env_.Unlink(digests);
  if (auto done = env_.Rename(arrival->temp, image); !done) return done;
  arrival->temp.clear();
  arrival->key.image = StateOf(image);
  for (const auto& [path, bytes] :
       {std::pair{digests, arrival->digests}, std::pair{key, arrival->key.Serialize()}}) {
    if (!cache::ReplaceFile(env_, path, bytes)) {
      return MakeError(ErrorCode::kIo, path + ": cannot be written");
    }
    if (arrival->key.shared) LetOthersRead(path);
  }
  return {};
}

cache::Result<void> Arrivals::Publish() {
  if (arrivals_.empty()) return {};
  FolderLock lock(folder_);  // Of who makes one with the same name.
  (void)lock.Take(/*wait=*/true);
  for (Arrival& arrival : arrivals_) {
    if (auto done = PublishOne(&arrival); !done) return done;
  }
  return {};
}

}  // namespace pylaunch::image
