#ifndef PYLAUNCH_TESTS_UNIT_CACHE_FAULTY_FILE_ENV_H_
#define PYLAUNCH_TESTS_UNIT_CACHE_FAULTY_FILE_ENV_H_

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/file_env.h"

namespace pylaunch::cache {

// The operating system's files, except that operations fail when the test wants them to. A failing
// Append first writes half of its bytes, as a full disk does.
class FaultyFileEnv final : public FileEnv {
 public:
  // The `n`-th operation from now (0: the next) fails, and all later ones too if `and_later`.
  void FailAt(int n, bool and_later = false) {
    fail_at_ = n;
    and_later_ = and_later;
    done_ = fired_ = 0;
    fired_names_.clear();
  }
  // All operations of this name fail.
  void FailAll(std::string name) { fail_name_ = std::move(name); }
  // Locks wait this long at most, so that the test need not wait as long as the library would.
  void WaitForLocksAtMost(std::chrono::milliseconds patience) { patience_ = patience; }
  // Its clock stands this far ahead of the file system's.
  void SetClockAhead(std::chrono::nanoseconds by) { clock_ahead_ns_ = by.count(); }
  // What the library asked for.
  std::chrono::milliseconds lock_timeout() const { return lock_timeout_; }
  int fired() const { return fired_; }
  int done() const { return done_; }
  const std::string& fired_names() const { return fired_names_; }

  Result<MappedFile> Map(const std::string& path) override {
    if (Fails("Map")) return Failure(path);
    return real_.Map(path);
  }
  Result<struct stat> Stat(const std::string& path) override {
    if (Fails("Stat")) return Failure(path);
    return real_.Stat(path);
  }
  Result<std::string> ReadFile(const std::string& path, size_t limit) override {
    if (Fails("ReadFile")) return Failure(path);
    return real_.ReadFile(path, limit);
  }
  Result<std::unique_ptr<WritableFile>> CreateTemp(const std::string& path) override {
    if (Fails("CreateTemp")) return Failure(path);
    auto file = real_.CreateTemp(path);
    if (!file) return file;
    return std::make_unique<File>(this, std::move(*file));
  }
  Result<void> Rename(const std::string& from, const std::string& to) override {
    if (Fails("Rename")) return Failure(to);
    return real_.Rename(from, to);
  }
  Result<void> Unlink(const std::string& path) override {
    if (Fails("Unlink")) return Failure(path);
    return real_.Unlink(path);
  }
  Result<void> Touch(const std::string& path) override {
    if (Fails("Touch")) return Failure(path);
    return real_.Touch(path);
  }
  Result<void> SyncFolder(const std::string& path) override {
    if (Fails("SyncFolder")) return Failure(path);
    return real_.SyncFolder(path);
  }
  Result<void> MakeFolders(const std::string& path) override {
    if (Fails("MakeFolders")) return Failure(path);
    return real_.MakeFolders(path);
  }
  Result<std::vector<std::string>> ListFolder(const std::string& path) override {
    if (Fails("ListFolder")) return Failure(path);
    return real_.ListFolder(path);
  }
  Result<std::unique_ptr<FileLock>> Lock(const std::string& path,
                                         std::chrono::milliseconds timeout) override {
    if (Fails("Lock")) return Failure(path);
    lock_timeout_ = timeout;
    return real_.Lock(path, std::min(timeout, patience_));
  }
  int64_t NowNs() override { return real_.NowNs() + clock_ahead_ns_; }

 private:
  class File final : public WritableFile {
   public:
    File(FaultyFileEnv* env, std::unique_ptr<WritableFile> real)
        : env_(env), real_(std::move(real)) {}
    Result<void> Append(std::string_view data) override {
      if (env_->Fails("Append")) {
        (void)real_->Append(data.substr(0, data.size() / 2));
        return Failure(path());
      }
      return real_->Append(data);
    }
    Result<void> WriteAt(uint64_t offset, std::string_view data) override {
      if (env_->Fails("WriteAt")) return Failure(path());
      return real_->WriteAt(offset, data);
    }
    Result<void> Sync() override {
      if (env_->Fails("Sync")) return Failure(path());
      return real_->Sync();
    }
    const std::string& path() const override { return real_->path(); }

   private:
    FaultyFileEnv* env_;
    std::unique_ptr<WritableFile> real_;
  };

  static tl::unexpected<Error> Failure(const std::string& path) {
    return MakeError(ErrorCode::kIo, path + ": injected fault");
  }
  bool Fails(const char* name) {
    const int n = done_++;
    const bool by_count = fail_at_ >= 0 && (n == fail_at_ || (and_later_ && n > fail_at_));
    if (!by_count && fail_name_ != name) return false;
    ++fired_;
    fired_names_.append(name).append(" ");
    return true;
  }

  FileEnv& real_ = PosixFileEnv();
  int fail_at_ = -1;
  bool and_later_ = false;
  std::string fail_name_;
  std::chrono::milliseconds patience_{60'000};
  std::chrono::milliseconds lock_timeout_{0};
  int64_t clock_ahead_ns_ = 0;
  int done_ = 0;
  int fired_ = 0;
  std::string fired_names_;
};

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_TESTS_UNIT_CACHE_FAULTY_FILE_ENV_H_
