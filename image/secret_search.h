#ifndef PYLAUNCH_IMAGE_SECRET_SEARCH_H_
#define PYLAUNCH_IMAGE_SECRET_SEARCH_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

namespace pylaunch::image {

// Looks for many values in much memory, in one pass. A value of seven bytes or more, wherever it
// stands, has a whole word at every multiple of four, a longer one at every multiple of 8, 16 or 32
// that lies in it. So one bit of a table is looked up for the words of the memory there, and only
// where that is set, the values are compared. (memmem(3), one pass a value and form, takes three
// times as long for one secret, and seconds for the zeros of wide strings.)
//
// All memory comes from `memory`: an image that is searched must not hold what is looked for.
class SecretSearch {
 public:
  explicit SecretSearch(std::pmr::memory_resource* memory);
  ~SecretSearch();
  SecretSearch(const SecretSearch&) = delete;
  SecretSearch& operator=(const SecretSearch&) = delete;

  // REQUIRES: `value` has seven bytes or more, or it may be overlooked.
  void Add(std::string_view name, std::string_view value);

  // The name of a value that lies in the `size` bytes at `begin` as a whole, or an empty string.
  std::string_view FindIn(const char* begin, size_t size) const;
  // What a search must begin before memory that follows on searched memory, to overlook nothing.
  size_t overlap() const { return overlap_; }
  bool empty() const { return values_.empty(); }

 private:
  using Word = uint32_t;
  static constexpr size_t kTableBits = 16;
  static constexpr size_t kMaxStride = 32;
  struct Value {
    std::pmr::string name;
    std::pmr::string bytes;
  };

  static size_t Place(Word word);
  // A value in the memory between `begin` and `end` that has one of its words at `word`.
  const Value* Compare(const char* word, const char* begin, const char* end) const;

  std::pmr::vector<Value> values_;
  std::bitset<size_t{1} << kTableBits>* table_;
  size_t stride_ = kMaxStride;
  size_t overlap_ = 0;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_SECRET_SEARCH_H_
