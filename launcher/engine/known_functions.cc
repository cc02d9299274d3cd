#include "launcher/engine/known_functions.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdlib>
#include <sstream>

namespace pylaunch::engine {
namespace {

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

void SetField(const std::string& field, KnownFunction* function) {
  const size_t equals = field.find('=');
  const std::string name = field.substr(0, equals), value = field.substr(equals + 1);
  if (name == "tree") function->tree = std::strtoul(value.c_str(), nullptr, 10);
  if (name == "skip") function->skip = value;
  if (name == "prefix") function->prefix = value;
  if (name == "uses") function->uses = Split(value);
  if (name != "source") return;
  for (const std::string& digest : Split(value))
    function->sources.push_back(std::strtoull(digest.c_str(), nullptr, 16));
}

KnownFunction ParseLine(const std::string& line) {
  KnownFunction function;
  std::istringstream in(line);
  std::string field;
  in >> field;
  const size_t colon = field.find(':');
  function.module = field.substr(0, colon);
  function.name = field.substr(colon + 1);
  while (in >> field) SetField(field, &function);
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
  if (line.starts_with("def ")) line.remove_prefix(4);
  if (!line.starts_with(name)) return false;
  line.remove_prefix(name.size());
  return line.starts_with("(") || line.starts_with(" =") || line.starts_with(":");
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
  std::istringstream in(list);
  for (std::string line; std::getline(in, line);) functions.push_back(ParseLine(line));
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
