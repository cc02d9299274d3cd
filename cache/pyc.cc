#include "cache/pyc.h"

#include "cache/format.h"

namespace pylaunch::cache {
namespace {

// int(os.stat(path).st_mtime): the float, cut towards zero. Near the end of a second the float is
// already the next one (Modules/posixmodule.c, fill_time).
uint32_t MtimeInPyc(int64_t mtime_ns) {
  constexpr int64_t kSecond = 1'000'000'000;
  int64_t seconds = mtime_ns / kSecond, rest = mtime_ns % kSecond;
  if (rest < 0) {
    rest += kSecond;
    --seconds;
  }
  const double mtime = static_cast<double>(seconds) + 1e-9 * static_cast<double>(rest);
  return static_cast<uint32_t>(static_cast<int64_t>(mtime));
}

}  // namespace

PycState PycStateOf(std::string_view pyc, const SourceStamp& source, uint32_t magic) {
  if (pyc.size() < kPycHeader) return PycState::kUnusable;
  const auto field = [pyc](size_t i) { return format::Load<uint32_t>(pyc.data() + 4 * i); };
  if (field(0) != magic) return PycState::kUnusable;
  constexpr uint32_t kHashed = 1, kChecked = 2;
  if (field(1) == kHashed) return PycState::kHashed;
  if (field(1) == (kHashed | kChecked)) return PycState::kCheckedHash;
  if (field(1) != 0) return PycState::kUnusable;
  const bool current =
      field(2) == MtimeInPyc(source.mtime_ns) && field(3) == static_cast<uint32_t>(source.size);
  return current ? PycState::kCurrent : PycState::kStale;
}

}  // namespace pylaunch::cache
