#include "cache/archive_reader.h"

#include <algorithm>
#include <utility>

#include "cache/codec_internal.h"
#include "cache/format.h"
#include "cache/paged_bytes.h"
#include "cache/trust.h"

namespace pylaunch::cache {
namespace {

tl::unexpected<Error> Corrupt(const std::string& path, const char* why) {
  return MakeError(ErrorCode::kCorrupt, path + ": damaged archive: " + why);
}

// [offset, offset + size) within [0, limit), without overflow.
constexpr bool Within(uint64_t offset, uint64_t size, uint64_t limit) {
  return offset <= limit && size <= limit - offset;
}

// How often the time of last use is set: often enough to tell archives apart that nobody uses.
constexpr int64_t kTouchAfterNs = 3600LL * 1'000'000'000;

Result<format::Header> ReadHeader(const MappedFile& file, const std::string& path) {
  format::Header header;
  // Another version may have a shorter header, and says so at its beginning.
  const size_t size = std::min(file.size(), sizeof header);
  if (size < offsetof(format::Header, file_size)) return Corrupt(path, "too short");
  char bytes[sizeof header] = {};
  if (!file.Read(0, size, bytes)) return Corrupt(path, "cut off");
  header = format::Load<format::Header>(bytes);
  if (std::memcmp(header.magic, format::kMagic, sizeof header.magic) != 0) {
    return Corrupt(path, "no magic");
  }
  // Before the checksum, which another version may keep elsewhere.
  if (header.version != format::kVersion) {
    return MakeError(ErrorCode::kForeign,
                     path + ": archive of format " + std::to_string(header.version));
  }
  if (size < sizeof header) return Corrupt(path, "too short");
  if (header.checksum != format::HeaderChecksum(header) ||
      header.header_size != sizeof(format::Header)) {
    return Corrupt(path, "wrong header checksum");
  }
  if (header.file_size != file.size()) return Corrupt(path, "wrong size");
  return header;
}

}  // namespace

uint32_t PackedNames::LowerBound(std::string_view name) const {
  uint32_t low = 0, high = count_;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if ((*this)[middle] < name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

bool PackedNames::Contains(std::string_view name) const {
  const uint32_t i = LowerBound(name);
  return i < count_ && (*this)[i] == name;
}

std::string_view PackedNames::operator[](uint32_t i) const {
  const char* slot = offsets_ + size_t{i} * sizeof(uint32_t);
  const auto begin = format::Load<uint32_t>(slot);
  const auto end = format::Load<uint32_t>(slot + sizeof(uint32_t));
  return {bytes_ + begin, end - begin};
}

struct ArchiveReader::Rep {
  struct Place {
    uint64_t offset = 0;
    uint64_t size = 0;
    uint64_t checksum = 0;
    std::optional<bool> intact = {};  // Once its checksum was compared.
  };
  // What a slot may lead to.
  struct Directory {
    Place slots;
    Place records;
  };

  MappedFile file;
  std::string path;
  format::Header header;
  Place key;
  Directory modules, folders;
  PagedBytes index;
  std::string frame;
  DCtxPtr context;
  bool damaged = false;

  static Result<std::unique_ptr<Rep>> Load(FileEnv& env, const std::string& path);
  bool Lay();
  bool LaySection(format::Tag tag, Place* place) const;
  bool Intact(Place* place);
  bool AllIntact();
  std::string_view KeyText();
  format::Slot SlotAt(const Directory& in, uint32_t i);
  uint32_t LowerBound(const Directory& in, uint32_t count, uint32_t hash);
  template <typename Entry>
  std::optional<Entry> Find(Directory* in, uint32_t count, std::string_view wanted,
                            std::optional<Entry> (Rep::*at)(uint32_t));
  template <typename Record>
  std::optional<std::pair<Record, std::string_view>> RecordAt(const Place& records, uint32_t place);
  std::optional<ModuleEntry> ModuleAt(uint32_t place);
  std::optional<FolderEntry> FolderAt(uint32_t place);
  bool FrameInside(uint64_t offset, uint64_t size) const;
  bool TakeFrame(uint64_t offset, uint32_t size, uint64_t check);
};

Result<std::unique_ptr<ArchiveReader::Rep>> ArchiveReader::Rep::Load(FileEnv& env,
                                                                     const std::string& path) {
  auto file = env.Map(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  // marshal data is code.
  if (const std::string why = WhyNotTrusted(env, file->st(), path); !why.empty()) {
    return MakeError(ErrorCode::kUntrusted, path + ": " + why);
  }
  auto header = ReadHeader(*file, path);
  if (!header) return tl::unexpected(std::move(header.error()));
  auto rep = std::make_unique<Rep>();
  rep->file = std::move(*file);
  rep->path = path;
  rep->header = *header;
  if (!rep->Lay()) return Corrupt(path, "index out of bounds");
  rep->index = PagedBytes(&rep->file, rep->header.index_offset);
  return rep;
}

// Finds the sections. False unless each that is needed is there, lies behind the frames, and has
// the size that the counts ask for.
bool ArchiveReader::Rep::Lay() {
  if (header.index_offset < sizeof(format::Header) || header.index_offset > file.size()) {
    return false;
  }
  return LaySection(format::kKey, &key) && LaySection(format::kModuleSlots, &modules.slots) &&
         LaySection(format::kModules, &modules.records) &&
         LaySection(format::kFolderSlots, &folders.slots) &&
         LaySection(format::kFolders, &folders.records) &&
         modules.slots.size == uint64_t{header.module_count} * sizeof(format::Slot) &&
         folders.slots.size == uint64_t{header.folder_count} * sizeof(format::Slot);
}

bool ArchiveReader::Rep::LaySection(format::Tag tag, Place* place) const {
  for (const format::Section& section : header.sections) {
    if (section.tag != tag) continue;
    *place = {.offset = section.offset, .size = section.size, .checksum = section.checksum};
    return section.offset >= header.index_offset &&
           Within(section.offset, section.size, file.size());
  }
  return false;
}

bool ArchiveReader::Rep::Intact(Place* place) {
  if (!place->intact) {
    const char* bytes = index.Get(place->offset, place->size);
    place->intact = bytes != nullptr && format::Hash({bytes, place->size}) == place->checksum;
  }
  return *place->intact;
}

bool ArchiveReader::Rep::AllIntact() {
  for (const format::Section& section : header.sections) {
    if (section.tag == 0) continue;
    Place place;
    if (!LaySection(static_cast<format::Tag>(section.tag), &place) || !Intact(&place)) return false;
  }
  return true;
}

std::string_view ArchiveReader::Rep::KeyText() {
  const char* bytes = index.Get(key.offset, key.size);
  return bytes == nullptr ? std::string_view() : std::string_view(bytes, key.size);
}

bool ArchiveReader::Rep::FrameInside(uint64_t offset, uint64_t size) const {
  return offset >= sizeof(format::Header) && size > 0 && Within(offset, size, header.index_offset);
}

// Copies a frame to `frame`. False: it is not what was written.
bool ArchiveReader::Rep::TakeFrame(uint64_t offset, uint32_t size, uint64_t check) {
  if (!FrameInside(offset, size)) return false;
  frame.resize(size);
  return file.Read(offset, size, frame.data()) && format::Hash(frame) == check;
}

// nullopt: the record is damaged or does not lie within its section.
template <typename Record>
std::optional<std::pair<Record, std::string_view>> ArchiveReader::Rep::RecordAt(
    const Place& records, uint32_t place) {
  const uint64_t at = uint64_t{place} * format::kRecordAlign;
  if (!Within(at, sizeof(Record), records.size)) return {};
  const char* bytes = index.Get(records.offset + at, sizeof(Record));
  if (bytes == nullptr) return {};
  const auto record = format::Load<Record>(bytes);
  const uint64_t size = format::FollowingSize(record);
  if (record.path_size == 0 || !Within(at + sizeof(Record), size, records.size)) return {};
  const char* following = index.Get(records.offset + at + sizeof(Record), size);
  if (following == nullptr) return {};
  const std::string_view view(following, size);
  if (record.check != format::RecordCheck(record, view)) return {};
  return std::pair(record, view);
}

std::optional<ModuleEntry> ArchiveReader::Rep::ModuleAt(uint32_t place) {
  const auto found = RecordAt<format::Module>(modules.records, place);
  if (!found) return {};
  const format::Module& raw = found->first;
  ModuleEntry entry = {.path = found->second,
                       .stamp = {.mtime_ns = raw.mtime_ns,
                                 .size = raw.source_size,
                                 .ctime_ns = raw.ctime_ns,
                                 .inode = raw.inode},
                       .digest = {},
                       .frame_offset = raw.frame_offset,
                       .frame_check = raw.frame_check,
                       .frame_size = raw.frame_size,
                       .raw_size = raw.raw_size,
                       .order = raw.order};
  if ((raw.flags & format::kHasDigest) != 0) {
    entry.digest = SourceDigest{.low = raw.digest_low, .high = raw.digest_high};
  }
  if (!FrameInside(entry.frame_offset, entry.frame_size)) return {};
  return entry;
}

std::optional<FolderEntry> ArchiveReader::Rep::FolderAt(uint32_t place) {
  const auto found = RecordAt<format::Folder>(folders.records, place);
  if (!found) return {};
  const auto& [raw, following] = *found;
  const char* offsets = following.data() + raw.path_size;
  const size_t offsets_size = (size_t{raw.name_count} + 1) * sizeof(uint32_t);
  // The checksum proves that nothing was damaged, not that the writer was right; PackedNames
  // follows these without looking.
  uint32_t last = 0;
  for (size_t at = 0; at < offsets_size; at += sizeof(uint32_t)) {
    const auto offset = format::Load<uint32_t>(offsets + at);
    if (offset < last || offset > raw.names_size) return {};
    last = offset;
  }
  return FolderEntry{
      .path = following.substr(0, raw.path_size),
      .stamp = {.mtime_ns = raw.mtime_ns, .ctime_ns = raw.ctime_ns, .inode = raw.inode},
      .names = PackedNames(offsets, offsets + offsets_size, raw.name_count)};
}

// What cannot be read is a slot that leads nowhere.
format::Slot ArchiveReader::Rep::SlotAt(const Directory& in, uint32_t i) {
  const char* bytes =
      index.Get(in.slots.offset + uint64_t{i} * sizeof(format::Slot), sizeof(format::Slot));
  if (bytes == nullptr) {
    damaged = true;
    return {.hash = 0, .place = ~uint32_t{0}};
  }
  return format::Load<format::Slot>(bytes);
}

// The first of `count` slots whose hash is not below `hash`. Hashes are spread evenly, so that it
// lies near where its value says: one piece of the index, instead of one for each halving.
uint32_t ArchiveReader::Rep::LowerBound(const Directory& in, uint32_t count, uint32_t hash) {
  const auto guess = static_cast<uint32_t>((uint64_t{hash} * count) >> 32);
  uint32_t step = 32;
  uint32_t low = guess > step ? guess - step : 0;
  while (low > 0 && SlotAt(in, low).hash >= hash) {
    step *= 2;
    low = low > step ? low - step : 0;
  }
  step = 32;
  uint32_t high = count - guess > step ? guess + step : count;
  while (high < count && SlotAt(in, high).hash < hash) {
    step *= 2;
    high = count - high > step ? high + step : count;
  }
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (SlotAt(in, middle).hash < hash) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The entry for `wanted`. A miss is believed only from slots whose checksum is right.
template <typename Entry>
std::optional<Entry> ArchiveReader::Rep::Find(Directory* in, uint32_t count,
                                              std::string_view wanted,
                                              std::optional<Entry> (Rep::*at)(uint32_t)) {
  const uint32_t hash = format::SlotHash(wanted);
  for (uint32_t i = LowerBound(*in, count, hash); i < count; ++i) {
    const format::Slot slot = SlotAt(*in, i);
    if (slot.hash != hash) break;
    auto entry = (this->*at)(slot.place);
    if (!entry) damaged = true;
    if (entry && entry->path == wanted) return entry;
  }
  if (!Intact(&in->slots)) damaged = true;
  return {};
}

ArchiveReader::ArchiveReader(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
ArchiveReader::~ArchiveReader() = default;

Result<std::unique_ptr<ArchiveReader>> ArchiveReader::Open(FileEnv& env, const std::string& path,
                                                           const BuildKey& key) {
  auto rep = Rep::Load(env, path);
  if (!rep) return tl::unexpected(std::move(rep.error()));
  const std::string text = key.Text();
  if ((*rep)->header.key_digest != format::Hash(text) || (*rep)->KeyText() != text) {
    return MakeError(ErrorCode::kForeign, path + ": archive of another Python or environment");
  }
  if (env.NowNs() - LastUseNs((*rep)->file.st()) > kTouchAfterNs) (void)env.Touch(path);
  return std::unique_ptr<ArchiveReader>(new ArchiveReader(std::move(*rep)));
}

Result<std::unique_ptr<ArchiveReader>> ArchiveReader::OpenAny(FileEnv& env,
                                                              const std::string& path) {
  auto rep = Rep::Load(env, path);
  if (!rep) return tl::unexpected(std::move(rep.error()));
  if (!(*rep)->AllIntact()) return Corrupt(path, "wrong index checksum");
  return std::unique_ptr<ArchiveReader>(new ArchiveReader(std::move(*rep)));
}

std::optional<ModuleEntry> ArchiveReader::FindModule(std::string_view path) const {
  return rep_->Find(&rep_->modules, module_count(), path, &Rep::ModuleAt);
}

std::optional<FolderEntry> ArchiveReader::FindFolder(std::string_view path) const {
  return rep_->Find(&rep_->folders, folder_count(), path, &Rep::FolderAt);
}

bool ArchiveReader::IndexIntact() const { return rep_->AllIntact(); }

bool ArchiveReader::damaged() const { return rep_->damaged; }

Result<void> ArchiveReader::ReadCode(const ModuleEntry& entry, std::string* out) const {
  const auto frame = Frame(entry);
  if (!frame) return tl::unexpected(frame.error());
  auto done = DecompressWith(&rep_->context, *frame, entry.raw_size, out);
  if (!done) {
    std::string message = rep_->path + ": damaged archive: code of ";
    message.append(entry.path).append(": ").append(done.error().message);
    return MakeError(done.error().code, std::move(message));
  }
  return done;
}

Result<std::string_view> ArchiveReader::Frame(const ModuleEntry& entry) const {
  if (rep_->TakeFrame(entry.frame_offset, entry.frame_size, entry.frame_check)) return rep_->frame;
  std::string message = rep_->path + ": damaged archive: code of ";
  return MakeError(ErrorCode::kCorrupt, message.append(entry.path));
}

Result<void> ArchiveReader::ReadBlock(const Block& block, std::string* out) const {
  if (rep_->TakeFrame(block.offset, block.size, block.check) &&
      DecompressWith(&rep_->context, rep_->frame, block.raw_size, out)) {
    return {};
  }
  return MakeError(ErrorCode::kCorrupt, rep_->path + ": damaged archive: a block");
}

std::optional<std::string_view> ArchiveReader::Section(uint32_t tag) const {
  Rep::Place place;
  if (tag == 0 || !rep_->LaySection(static_cast<format::Tag>(tag), &place)) return {};
  if (!rep_->Intact(&place)) {
    rep_->damaged = true;
    return {};
  }
  return std::string_view(rep_->index.Get(place.offset, place.size), place.size);
}

uint32_t ArchiveReader::module_count() const { return rep_->header.module_count; }
uint32_t ArchiveReader::folder_count() const { return rep_->header.folder_count; }

ModuleEntry ArchiveReader::module(uint32_t i) const {
  return rep_->ModuleAt(rep_->SlotAt(rep_->modules, i).place).value_or(ModuleEntry());
}

FolderEntry ArchiveReader::folder(uint32_t i) const {
  return rep_->FolderAt(rep_->SlotAt(rep_->folders, i).place).value_or(FolderEntry());
}

uint64_t ArchiveReader::file_size() const { return rep_->file.size(); }
int64_t ArchiveReader::created_ns() const { return rep_->header.created_ns; }
std::string_view ArchiveReader::key_text() const { return rep_->KeyText(); }

}  // namespace pylaunch::cache
