#ifndef PYLAUNCH_CACHE_WIRE_H_
#define PYLAUNCH_CACHE_WIRE_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// How two programs of one installation hand structs to each other through a memfd: fields one after
// the other, integers as they stand in memory, strings and lists after a u64 of their length.

namespace pylaunch::cache {

// Appends values to a string of bytes.
class WireWriter {
 public:
  template <typename T>
  void Number(T value) {
    static_assert(std::has_unique_object_representations_v<T>);  // No padding, whose bytes vary.
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void String(std::string_view text) {
    Number<uint64_t>(text.size());
    bytes_ += text;
  }
  // Calls `write` for each element, after their number.
  template <typename T, typename Write>
  void List(const std::vector<T>& list, const Write& write) {
    Number<uint64_t>(list.size());
    for (const T& element : list) write(element);
  }
  void Raw(std::string_view text) { bytes_ += text; }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads what WireWriter wrote. After the first read beyond the end, ok() is false and all reads
// give nothing.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  void Number(T* value) {
    const std::string_view bytes = Raw(sizeof(T));
    *value = T();
    if (ok_) std::memcpy(value, bytes.data(), sizeof(T));
  }
  void String(std::string* text) {
    uint64_t size;
    Number(&size);
    *text = Raw(size);
  }
  // Calls `read` once for each element of a list.
  template <typename T, typename Read>
  void List(std::vector<T>* list, const Read& read) {
    uint64_t count;
    Number(&count);
    // Every element takes bytes, so that a wrong count ends with the bytes.
    for (uint64_t i = 0; i < count && ok_; ++i) read(&list->emplace_back());
  }
  std::string_view Raw(uint64_t size) {
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  bool ok() const { return ok_; }
  std::string_view rest() const { return rest_; }
  bool AtEnd() const { return ok_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_WIRE_H_
