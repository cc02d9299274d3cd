#include "image/secret_search.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

namespace pylaunch::image {

SecretSearch::SecretSearch(std::pmr::memory_resource* memory)
    : values_(memory),
      table_(std::pmr::polymorphic_allocator<>(memory)
                 .new_object<std::bitset<size_t{1} << kTableBits>>()) {}

SecretSearch::~SecretSearch() {
  std::pmr::polymorphic_allocator<>(values_.get_allocator().resource()).delete_object(table_);
}

size_t SecretSearch::Place(Word word) {
  constexpr Word kOdd = 2654435761u;  // Knuth's multiplicative hash.
  return (word * kOdd) >> (8 * sizeof(Word) - kTableBits);
}

void SecretSearch::Add(std::string_view name, std::string_view value) {
  std::pmr::memory_resource* memory = values_.get_allocator().resource();
  values_.push_back({std::pmr::string(name, memory), std::pmr::string(value, memory)});
  overlap_ = std::max(overlap_, value.size() - 1);
  const size_t words = value.size() - (sizeof(Word) - 1);
  stride_ = std::min(stride_, std::bit_floor(words));
  for (size_t offset = 0; offset < std::min(words, kMaxStride); ++offset) {
    Word word;
    std::memcpy(&word, value.data() + offset, sizeof word);
    table_->set(Place(word));
  }
}

const SecretSearch::Value* SecretSearch::Compare(const char* word, const char* begin,
                                                 const char* end) const {
  for (const Value& value : values_) {
    const size_t size = value.bytes.size();
    for (size_t offset = 0; offset < stride_; ++offset) {
      const auto before = static_cast<size_t>(word - begin);
      const auto behind = static_cast<size_t>(end - word);
      if (before < offset || behind + offset < size) continue;
      if (std::memcmp(word - offset, value.bytes.data(), size) == 0) return &value;
    }
  }
  return nullptr;
}

std::string_view SecretSearch::FindIn(const char* begin, size_t size) const {
  const char* end = begin + size;
  const size_t misaligned = reinterpret_cast<uintptr_t>(begin) % stride_;
  size_t at = misaligned == 0 ? 0 : stride_ - misaligned;
  for (; at + sizeof(Word) <= size; at += stride_) {
    Word word;
    std::memcpy(&word, begin + at, sizeof word);
    if (!(*table_)[Place(word)]) continue;
    if (const Value* value = Compare(begin + at, begin, end)) return value->name;
  }
  return {};
}

}  // namespace pylaunch::image
