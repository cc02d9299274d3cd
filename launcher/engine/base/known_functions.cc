#include "launcher/engine/base/known_functions.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>

#include "launcher/engine/base/split.h"

namespace pylaunch::engine {
namespace {

uint64_t Number(std::string_view digits, int base) {
  uint64_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  return number;
}

void SetField(std::string_view field, KnownFunction* function) {
  const size_t equals = std::min(field.find('='), field.size());
  const std::string_view name = field.substr(0, equals);
  const std::string_view value = field.substr(std::min(equals + 1, field.size()));
  if (name == "tree") function->tree = Number(value, 10);
  if (name == "skip") function->skip = value;
  if (name == "prefix") function->prefix = value;
  for (std::string_view part : Split(value, ',')) {
    if (name == "uses") function->uses.emplace_back(part);
    if (name == "source") function->sources.push_back(Number(part, 16));
  }
}

KnownFunction ParseLine(std::string_view line) {
  KnownFunction function;
  for (std::string_view field : Split(line, ' ')) {
    if (!function.module.empty()) {
      SetField(field, &function);
      continue;
    }
    const size_t colon = std::min(field.find(':'), field.size() - 1);
    function.module = field.substr(0, colon);
    function.name = field.substr(colon + 1);
  }
  return function;
}

// The lines from `begin` to the next line that begins another statement.
std::string_view Statement(std::string_view source, size_t begin, size_t after_first_line) {
  size_t end = after_first_line;
  while (end < source.size()) {
    const char first = source[end];
    if (std::string_view(" \t\r\n#)]}").find(first) == std::string_view::npos) break;
    const size_t newline = source.find('\n', end);
    end = newline == std::string_view::npos ? source.size() : newline + 1;
  }
  return source.substr(begin, end - begin);
}

bool Binds(std::string_view line, std::string_view name) {
  const bool function = line.starts_with("def ");
  if (function) line.remove_prefix(4);
  if (!line.starts_with(name)) return false;
  line.remove_prefix(name.size());
  if (function) return line.starts_with("(");
  return line.starts_with(" =") || line.starts_with(":");
}

// The last top-level statement that binds `name`, with its decorators; empty: none.
std::string_view Binding(std::string_view source, std::string_view name) {
  std::string_view found;
  size_t decorated = std::string_view::npos;
  for (size_t at = 0; at < source.size();) {
    const size_t newline = source.find('\n', at);
    const size_t next = newline == std::string_view::npos ? source.size() : newline + 1;
    const std::string_view line = source.substr(at, next - at);
    if (Binds(line, name)) {
      found = Statement(source, decorated == std::string_view::npos ? at : decorated, next);
    }
    if (!line.starts_with("@")) {
      decorated = std::string_view::npos;
    } else if (decorated == std::string_view::npos) {
      decorated = at;
    }
    at = next;
  }
  return found;
}

}  // namespace

std::vector<KnownFunction> ParseKnownFunctions(const char* list) {
  std::vector<KnownFunction> functions;
  for (std::string_view line : Split(list, '\n')) functions.push_back(ParseLine(line));
  return functions;
}

uint64_t SourceDigest(const KnownFunction& function, std::string_view source) {
  std::vector<std::string> names = function.uses;
  names.insert(names.begin(), function.name);
  uint64_t digest = 0;
  for (const std::string& name : names) {
    const std::string_view text = Binding(source, name);
    if (text.empty()) return 0;
    digest = XXH3_64bits_withSeed(text.data(), text.size(), digest);
  }
  return digest;
}

}  // namespace pylaunch::engine
