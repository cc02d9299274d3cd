#include "cache/stamp.h"

#include <algorithm>
#include <cctype>
#include <cinttypes>
#include <cstdio>

#include "cache/format.h"

namespace pylaunch::cache {
namespace {

// Both are one line afterwards, and different texts stay different.
void AppendEscaped(std::string_view text, std::string* out) {
  for (const char c : text) {
    switch (c) {
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      default:
        *out += c;
    }
  }
}

constexpr std::string_view kEnvironment = " environment=";

}  // namespace

int64_t LastUseNs(const struct stat& st) {
  return std::max(NanosecondsOf(st.st_atim), NanosecondsOf(st.st_mtim));
}

SourceDigest DigestOf(std::string_view source) {
  const XXH128_hash_t hash = XXH3_128bits(source.data(), source.size());
  return {.low = hash.low64, .high = hash.high64};
}

SourceStamp SourceStampOf(const struct stat& st) {
  const StatProof proof = StatProofOf(st);
  return {.mtime_ns = proof.mtime_ns,
          .size = proof.size,
          .ctime_ns = proof.ctime_ns,
          .inode = proof.inode};
}

FolderStamp FolderStampOf(const struct stat& st) {
  const StatProof proof = StatProofOf(st);
  return {.mtime_ns = proof.mtime_ns, .ctime_ns = proof.ctime_ns, .inode = proof.inode};
}

std::string BuildKey::Text() const {
  char numbers[64];
  std::snprintf(numbers, sizeof numbers, " magic=0x%08" PRIx32 " optimize=%d", magic, optimize);
  std::string text = "python=";
  AppendEscaped(python, &text);
  text += numbers;
  text += kEnvironment;
  AppendEscaped(environment, &text);
  return text;
}

std::string EnvironmentOf(std::string_view text) {
  const size_t at = text.find(kEnvironment);
  if (at == text.npos) return "";
  std::string environment;
  for (size_t i = at + kEnvironment.size(); i < text.size(); ++i) {
    const bool escaped = text[i] == '\\' && i + 1 < text.size();
    const char c = escaped ? text[++i] : text[i];
    environment += !escaped ? c : c == 'n' ? '\n' : c == 'r' ? '\r' : c;
  }
  return environment;
}

std::string BuildKey::FileName() const {
  const auto is_version = [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '+'; };
  const auto end = std::find_if_not(python.begin(), python.end(), is_version);
  std::string name(python.begin(),
                   std::min(end, python.begin() + std::min<size_t>(python.size(), 32)));
  char rest[32];
  std::snprintf(rest, sizeof rest, "-%016" PRIx64 ".pla", format::Hash(Text()));
  return (name.empty() || name[0] == '.' ? "python" + name : name) + rest;
}

}  // namespace pylaunch::cache
