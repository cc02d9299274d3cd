#include "launcher/engine/environment/environment_reads.h"

#include <algorithm>
#include <cstring>
#include <functional>

#define XXH_INLINE_ALL
#include "xxhash.h"

namespace pylaunch::engine {
namespace {

constexpr uint64_t kSeed = 0x656e7669726f6e00;

std::optional<uint64_t> HashOf(const char* value) {
  if (value == nullptr) return std::nullopt;
  return XXH3_64bits_withSeed(value, std::strlen(value), kSeed);
}

}  // namespace

bool EnvironmentRead::Saw(const char* now) const { return value == HashOf(now); }

EnvironmentReads::~EnvironmentReads() {
  for (List& list : lists_) {
    for (Node* node = list.load(); node != nullptr;) {
      Node* next = node->next;
      delete node;
      node = next;
    }
  }
}

size_t EnvironmentReads::ListOf(std::string_view name) {
  return std::hash<std::string_view>()(name) % kLists;
}

const EnvironmentReads::Node* EnvironmentReads::Find(const Node* from, std::string_view name) {
  while (from != nullptr && from->read.name != name) from = from->next;
  return from;
}

void EnvironmentReads::Add(std::string_view name, const char* value, size_t entry) {
  List& list = lists_[ListOf(name)];
  Node* head = list.load(std::memory_order_acquire);
  const Node* last = Find(head, name);
  const std::optional<uint64_t> hash = HashOf(value);
  if (last != nullptr && last->read.entry == entry && last->read.value == hash) return;
  Node* node = new Node{{std::string(name), hash, entry}, head};
  // Two threads may add the same read: harmless.
  while (!list.compare_exchange_weak(node->next, node, std::memory_order_release)) {
  }
  any_.store(true, std::memory_order_relaxed);
}

const EnvironmentRead* EnvironmentReads::Last(std::string_view name) const {
  const Node* node = Find(lists_[ListOf(name)].load(std::memory_order_acquire), name);
  return node == nullptr ? nullptr : &node->read;
}

std::vector<size_t> EnvironmentReads::Entries(std::string_view name) const {
  std::vector<size_t> entries;
  const Node* node = Find(lists_[ListOf(name)].load(std::memory_order_acquire), name);
  for (; node != nullptr; node = Find(node->next, name)) entries.push_back(node->read.entry);
  std::sort(entries.begin(), entries.end());
  entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
  return entries;
}

std::vector<EnvironmentRead> EnvironmentReads::All() const {
  std::vector<EnvironmentRead> all;
  for (const List& list : lists_) {
    const Node* head = list.load(std::memory_order_acquire);
    for (const Node* node = head; node != nullptr; node = node->next) {
      if (Find(head, node->read.name) == node) all.push_back(node->read);
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return all;
}

EnvironmentReads& PreloadReads() {
  // getenv(3) and setenv(3) tell us with nothing of ours. Never destroyed: threads that outlive
  // main() may still call these.
  static EnvironmentReads* reads = new EnvironmentReads();
  return *reads;
}

}  // namespace pylaunch::engine
