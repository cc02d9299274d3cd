#ifndef PYLAUNCH_CACHE_FILE_ENV_H_
#define PYLAUNCH_CACHE_FILE_ENV_H_

#include <sys/stat.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cache/error.h"

namespace pylaunch::cache {

// A whole file mapped read-only, with the stat of the descriptor that was mapped. A mapping and not
// a descriptor, because the program must not find one that stock has not, and may close all it
// finds. Move-only; unmaps when it goes.
class MappedFile {
 public:
  MappedFile() = default;
  // Takes over a mapping made by mmap(2); `data` may be null if `size` is 0.
  MappedFile(const char* data, size_t size, const struct stat& st)
      : data_(data), size_(size), st_(st) {}
  ~MappedFile() { Unmap(); }
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  // Copies [offset, offset + size) to `out`. False: the file has been cut off there meanwhile, or
  // the disk fails. REQUIRES: offset + size <= size().
  bool Read(uint64_t offset, size_t size, char* out) const;
  size_t size() const { return size_; }
  // For files that nobody else can cut off.
  std::string_view view() const { return {data_, size_}; }
  const struct stat& st() const { return st_; }

 private:
  void Unmap();

  const char* data_ = nullptr;
  size_t size_ = 0;
  struct stat st_ = {};
};

// A file being written. Closed, and left where it is, by the destructor. Not thread-safe.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // All of `data`, or kIo.
  virtual Result<void> Append(std::string_view data) = 0;
  // Overwrites at `offset`; the place where Append goes on is not moved.
  virtual Result<void> WriteAt(uint64_t offset, std::string_view data) = 0;
  virtual Result<void> Sync() = 0;
  virtual const std::string& path() const = 0;
};

// Held as long as it lives.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// Every file operation of this library goes through one of these, so that tests can make any of
// them fail. Thread-safe. A missing file or folder is kNotFound where something is read, kIo where
// something is written.
class FileEnv {
 public:
  virtual ~FileEnv() = default;

  // Maps a regular file whole. kUntrusted: a symbolic link (another user may have placed it), or no
  // regular file. Never blocks on a FIFO.
  virtual Result<MappedFile> Map(const std::string& path) = 0;
  // Follows symbolic links.
  virtual Result<struct stat> Stat(const std::string& path) = 0;
  // Reads a regular file, following symbolic links. kIo: it is larger than `limit`.
  virtual Result<std::string> ReadFile(const std::string& path, size_t limit) = 0;
  // Creates a new file of mode 0600 in the folder of `path`; IsTempNameFor recognises its name.
  virtual Result<std::unique_ptr<WritableFile>> CreateTemp(const std::string& path) = 0;
  virtual Result<void> Rename(const std::string& from, const std::string& to) = 0;
  virtual Result<void> Unlink(const std::string& path) = 0;
  // Sets the time of last use (atime) to now. Not left to the file system, which may be mounted
  // noatime.
  virtual Result<void> Touch(const std::string& path) = 0;
  virtual Result<void> SyncFolder(const std::string& path) = 0;
  // mkdir -p with mode 0700 for each folder that it makes.
  virtual Result<void> MakeFolders(const std::string& path) = 0;
  // Names without "." and "..", in no order. kIo for what is there and is no folder.
  virtual Result<std::vector<std::string>> ListFolder(const std::string& path) = 0;
  // Takes the exclusive flock(2) on `path`, which is created (mode 0600) and stays. kBusy: someone
  // else held it for all of `timeout`. A file system without locks gives an empty lock: there, the
  // last of two writers wins, and both archives are whole.
  virtual Result<std::unique_ptr<FileLock>> Lock(const std::string& path,
                                                 std::chrono::milliseconds timeout) = 0;
  // CLOCK_REALTIME.
  virtual int64_t NowNs() = 0;
};

// Puts a file of these bytes in the place of the one at `path`, if there is one: whole or not at
// all, but for a crash of the machine, since nobody waits for the disk. False: it is as it was.
bool ReplaceFile(FileEnv& env, const std::string& path, std::string_view bytes);

// The operating system's.
FileEnv& PosixFileEnv();
// The same for who only looks: reading does not set the time of last use (open(2), O_NOATIME),
// where the file is this user's.
FileEnv& UnnoticedFileEnv();

// True if CreateTemp may have made `name` (no folder) for a file called `base` (no folder).
bool IsTempNameFor(std::string_view name, std::string_view base);

// The part of `path` before the last slash: "/" for "/a", "." for "a".
std::string FolderOf(std::string_view path);
// The part after the last slash.
std::string_view BaseOf(std::string_view path);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_FILE_ENV_H_
