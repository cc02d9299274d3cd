#include "cache/file_env.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "cache/descriptor.h"
#include "cache/guarded_copy.h"
#include "cache/stat_proof.h"

namespace pylaunch::cache {
namespace {

constexpr std::string_view kTempInfix = ".tmp.";
constexpr size_t kTempDigits = 16;

tl::unexpected<Error> SysError(ErrorCode code, const char* doing, const std::string& path,
                               int err) {
  std::string message = path;
  message.append(": ").append(doing).append(": ").append(std::generic_category().message(err));
  return MakeError(code, std::move(message));
}

tl::unexpected<Error> ReadError(const char* doing, const std::string& path, int err) {
  const bool missing = err == ENOENT || err == ENOTDIR;
  return SysError(missing ? ErrorCode::kNotFound : ErrorCode::kIo, doing, path, err);
}

tl::unexpected<Error> WriteError(const char* doing, const std::string& path, int err) {
  return SysError(ErrorCode::kIo, doing, path, err);
}

Descriptor OpenFd(const std::string& path, int flags, mode_t mode = 0) {
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY, mode);
  } while (fd < 0 && errno == EINTR);
  return Descriptor(fd);
}

std::string RandomHex() {
  uint64_t bits = 0;
  if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) != sizeof bits) {
    // Early at boot. The name need only be new, and O_EXCL says whether it is.
    timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    bits = static_cast<uint64_t>(ts.tv_nsec) << 32 ^ static_cast<uint64_t>(getpid());
  }
  char text[kTempDigits + 1];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(bits));
  return text;
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(Descriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<void> Append(std::string_view data) override {
    auto done = WriteAt(end_, data);
    if (done) end_ += data.size();
    return done;
  }

  Result<void> WriteAt(uint64_t offset, std::string_view data) override {
    while (!data.empty()) {
      const ssize_t n = pwrite(fd_.get(), data.data(), data.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return WriteError("cannot write", path_, n < 0 ? errno : ENOSPC);
      data.remove_prefix(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return {};
  }

  Result<void> Sync() override {
    // Not again after EINTR or EIO: the kernel may have dropped the dirty pages already.
    if (fsync(fd_.get()) != 0) return WriteError("cannot sync", path_, errno);
    return {};
  }

  const std::string& path() const override { return path_; }

 private:
  Descriptor fd_;
  std::string path_;
  uint64_t end_ = 0;
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(Descriptor fd) : fd_(std::move(fd)) {}

 private:
  Descriptor fd_;  // Closing it releases the lock, unless a forked child holds a copy.
};

// One try to take the lock: true if taken or not to be had here, false if another holds it.
Result<bool> TryFlock(int fd, const std::string& path) {
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
  switch (errno) {
    case EWOULDBLOCK:
    case EINTR:
      return false;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENOLCK:
      return true;
    default:
      return WriteError("cannot lock", path, errno);
  }
}

// Someone may have removed the lock file between our open and our flock: then a third process can
// lock a new file of that name, and our lock keeps nobody out.
bool StillAt(int fd, const std::string& path) {
  struct stat ours, there;
  return fstat(fd, &ours) == 0 && stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino &&
         ours.st_dev == there.st_dev;
}

class PosixEnv final : public FileEnv {
 public:
  explicit PosixEnv(bool unnoticed) : unnoticed_(unnoticed) {}

  Result<MappedFile> Map(const std::string& path) override {
    const Descriptor fd = OpenToRead(path, O_NOFOLLOW);
    if (!fd.ok() && errno == ELOOP) {
      return MakeError(ErrorCode::kUntrusted, path + ": is a symbolic link");
    }
    if (!fd.ok()) return ReadError("cannot open", path, errno);
    struct stat st;
    if (fstat(fd.get(), &st) != 0) return ReadError("cannot stat", path, errno);
    if (!S_ISREG(st.st_mode)) {
      return MakeError(ErrorCode::kUntrusted, path + ": is not a regular file");
    }
    const size_t size = static_cast<size_t>(st.st_size);
    if (size == 0) return MappedFile(nullptr, 0, st);
    void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) return SysError(ErrorCode::kIo, "cannot map", path, errno);
    return MappedFile(static_cast<const char*>(data), size, st);
  }

  Result<struct stat> Stat(const std::string& path) override {
    struct stat st;
    if (stat(path.c_str(), &st) != 0) return ReadError("cannot stat", path, errno);
    return st;
  }

  Result<std::string> ReadFile(const std::string& path, size_t limit) override {
    const Descriptor fd = OpenToRead(path, 0);
    if (!fd.ok()) return ReadError("cannot open", path, errno);
    struct stat st;
    if (fstat(fd.get(), &st) != 0) return ReadError("cannot stat", path, errno);
    if (!S_ISREG(st.st_mode)) return MakeError(ErrorCode::kIo, path + ": is not a regular file");
    if (static_cast<uint64_t>(st.st_size) > limit) {
      return MakeError(ErrorCode::kIo, path + ": is too large");
    }
    return ReadAll(fd.get(), static_cast<size_t>(st.st_size), path);
  }

  Result<std::unique_ptr<WritableFile>> CreateTemp(const std::string& path) override {
    std::string temp;
    for (int tries = 0; tries < 100; ++tries) {
      temp = path;
      temp.append(kTempInfix).append(RandomHex());
      Descriptor fd = OpenFd(temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
      if (fd.ok()) {
        fchmod(fd.get(), 0600);  // A umask may have taken the owner's own bits.
        return std::make_unique<PosixWritableFile>(std::move(fd), std::move(temp));
      }
      if (errno != EEXIST) break;
    }
    return WriteError("cannot create", temp, errno);
  }

  Result<void> Rename(const std::string& from, const std::string& to) override {
    if (rename(from.c_str(), to.c_str()) != 0) return WriteError("cannot replace", to, errno);
    return {};
  }

  Result<void> Unlink(const std::string& path) override {
    if (unlink(path.c_str()) != 0) return WriteError("cannot remove", path, errno);
    return {};
  }

  Result<void> Touch(const std::string& path) override {
    const timespec times[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    if (utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
      return WriteError("cannot set the time of", path, errno);
    }
    return {};
  }

  Result<void> SyncFolder(const std::string& path) override {
    const Descriptor fd = OpenFd(path, O_RDONLY | O_DIRECTORY);
    if (!fd.ok()) return WriteError("cannot open", path, errno);
    if (fsync(fd.get()) != 0) return WriteError("cannot sync", path, errno);
    return {};
  }

  Result<void> MakeFolders(const std::string& path) override {
    if (mkdir(path.c_str(), 0700) == 0) return {};
    if (errno == ENOENT && path != FolderOf(path)) {
      if (auto made = MakeFolders(FolderOf(path)); !made) return made;
      if (mkdir(path.c_str(), 0700) == 0) return {};
    }
    const int err = errno;
    // EEXIST from most systems, EROFS or EACCES from some, for a folder that is already there.
    struct stat st;
    if (stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
    return WriteError("cannot make the folder", path, err);
  }

  Result<std::vector<std::string>> ListFolder(const std::string& path) override {
    DIR* dir = opendir(path.c_str());
    struct stat st;
    if (dir == nullptr && errno == ENOTDIR && stat(path.c_str(), &st) == 0) {
      return MakeError(ErrorCode::kIo, path + ": cannot list: Not a directory");
    }
    if (dir == nullptr) return ReadError("cannot list", path, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = readdir(dir)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    const int err = errno;
    closedir(dir);
    if (err != 0) return ReadError("cannot list", path, err);
    return names;
  }

  Result<std::unique_ptr<FileLock>> Lock(const std::string& path,
                                         std::chrono::milliseconds timeout) override {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + timeout;
    // Polling, because flock(2) has no timeout and a library has no signal of its own to break it.
    auto pause = std::chrono::milliseconds(1);
    while (true) {
      Descriptor fd = OpenFd(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
      if (!fd.ok()) return WriteError("cannot open", path, errno);
      auto taken = TryFlock(fd.get(), path);
      if (!taken) return tl::unexpected(taken.error());
      if (*taken && StillAt(fd.get(), path)) {
        return std::make_unique<PosixFileLock>(std::move(fd));
      }
      if (Clock::now() >= deadline) {
        return MakeError(ErrorCode::kBusy, path + ": is locked by another process");
      }
      std::this_thread::sleep_for(pause);
      if (pause < std::chrono::milliseconds(20)) pause *= 2;
    }
  }

  int64_t NowNs() override {
    timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return NanosecondsOf(ts);
  }

 private:
  // A file that shrinks meanwhile gives what was there; one that grows, its first `size` bytes.
  static Result<std::string> ReadAll(int fd, size_t size, const std::string& path) try {
    std::string data(size, '\0');
    size_t got = 0;
    while (got < size) {
      const ssize_t n = read(fd, data.data() + got, size - got);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ReadError("cannot read", path, errno);
      if (n == 0) break;
      got += static_cast<size_t>(n);
    }
    data.resize(got);
    return data;
  } catch (const std::bad_alloc&) {
    return SysError(ErrorCode::kIo, "cannot read", path, ENOMEM);
  }

  Descriptor OpenToRead(const std::string& path, int flags) const {
    flags |= O_RDONLY | O_NONBLOCK;
    Descriptor fd = OpenFd(path, unnoticed_ ? flags | O_NOATIME : flags);
    if (!fd.ok() && errno == EPERM && unnoticed_) return OpenFd(path, flags);
    return fd;
  }

  const bool unnoticed_;
};

}  // namespace

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      st_(other.st_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    Unmap();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    st_ = other.st_;
  }
  return *this;
}

bool MappedFile::Read(uint64_t offset, size_t size, char* out) const {
  return size == 0 || GuardedCopy(data_ + offset, size, out);
}

void MappedFile::Unmap() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

bool ReplaceFile(FileEnv& env, const std::string& path, std::string_view bytes) {
  auto file = env.CreateTemp(path);
  if (!file) return false;
  const std::string temp = (*file)->path();
  if ((*file)->Append(bytes) && env.Rename(temp, path)) return true;
  (void)env.Unlink(temp);
  return false;
}

FileEnv& PosixFileEnv() {
  // Never destroyed: the engine may use it from exit hooks.
  static PosixEnv* const env = new PosixEnv(/*unnoticed=*/false);
  return *env;
}

FileEnv& UnnoticedFileEnv() {
  static PosixEnv* const env = new PosixEnv(/*unnoticed=*/true);
  return *env;
}

bool IsTempNameFor(std::string_view name, std::string_view base) {
  if (name.size() != base.size() + kTempInfix.size() + kTempDigits) return false;
  if (!name.starts_with(base)) return false;
  name.remove_prefix(base.size());
  if (!name.starts_with(kTempInfix)) return false;
  name.remove_prefix(kTempInfix.size());
  return name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string FolderOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  if (slash == 0) return "/";
  return std::string(path.substr(0, slash));
}

std::string_view BaseOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace pylaunch::cache
