#include "image/secrets.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>

namespace pylaunch::image {
namespace {

constexpr size_t kShortest = 8;

// Likewise in launcher/python/report/preload_file.py; tests/unit/image/secret_names.txt is for
// both.
constexpr std::string_view kSecretWords[] = {"TOKEN", "KEY",      "SECRET",
                                             "PASS",  "PASSWORD", "PASSWD"};
// A value that is withheld in vain (KEYBOARD) costs a line to fill in, one that is told a secret:
// so they count anywhere in a name (DBPASSWORD, OPENAI_KEY2, HTTP_AUTHORIZATION).
constexpr std::string_view kPrivateParts[] = {"KEY",  "SECRET",     "PASS",   "TOKEN",
                                              "AUTH", "CREDENTIAL", "COOKIE", "SESSION"};
// TOKENIZERS_PARALLELISM, MAX_TOKENS: what language models count.
constexpr std::string_view kCounted[] = {"TOKENIZER", "TOKENS", "TOKENIZE"};
constexpr std::string_view kSwitches[] = {"0", "1", "NO", "ON", "OFF", "YES", "TRUE", "FALSE"};

template <typename Words>
bool IsOneOf(const Words& words, std::string_view text) {
  const auto same = [text](std::string_view word) {
    return std::equal(word.begin(), word.end(), text.begin(), text.end(), [](char a, char b) {
      return a == std::toupper(static_cast<unsigned char>(b));
    });
  };
  return std::any_of(std::begin(words), std::end(words), same);
}

// As a whole word of the name.
template <typename Words>
bool HasWord(const Words& words, std::string_view name) {
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('_', begin), name.size());
    if (IsOneOf(words, name.substr(begin, end - begin))) return true;
    begin = end + 1;
  }
  return false;
}

using Text = std::pmr::u32string;

// How many of `bytes` are the first character in UTF-8 (RFC 3629, section 4), and which it is; 0:
// none.
size_t FirstCharacter(std::string_view bytes, char32_t* out) {
  const auto byte = [bytes](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  const size_t size = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (size == 0 || lead > 0xf4 || bytes.size() < size) return 0;
  char32_t c = size == 1 ? lead : lead & (0x7fu >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    c = c << 6 | (byte(i) & 0x3f);
  }
  const bool overlong = (size == 3 && c < 0x800) || (size == 4 && c < 0x10000);
  if (overlong || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff) return 0;
  *out = c;
  return size;
}

// PEP 383: a byte that is no text becomes a lone surrogate.
Text Decode(std::string_view bytes, std::pmr::memory_resource* memory) {
  Text text(memory);
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    char32_t c = 0xdc00u + static_cast<unsigned char>(bytes[0]);
    const size_t size = FirstCharacter(bytes, &c);
    text.push_back(c);
    bytes.remove_prefix(std::max<size_t>(size, 1));
  }
  return text;
}

void Append(char32_t number, size_t width, std::pmr::string* out) {
  for (size_t i = 0; i < width; ++i) out->push_back(static_cast<char>(number >> (8 * i) & 0xff));
}

// Little-endian; characters that do not fit become the two surrogates of UTF-16.
std::pmr::string Wide(const Text& text, size_t width) {
  std::pmr::string out(text.get_allocator().resource());
  for (const char32_t c : text) {
    if (width == 2 && c > 0xffff) {
      Append(0xd7c0 + (c >> 10), width, &out);
      Append(0xdc00 + (c & 0x3ff), width, &out);
    } else {
      Append(c, width, &out);
    }
  }
  return out;
}

void AppendEscape(char32_t c, std::pmr::string* out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  *out += "\\u";
  for (const int shift : {12, 8, 4, 0}) *out += kDigits[c >> shift & 0xf];
}

// As json.dumps() writes it (Modules/_json.c, ascii_escape_unichar); what repr() makes of line ends
// and backslashes is the same.
std::pmr::string Json(const Text& text) {
  constexpr std::string_view kEscaped = "\\\"\b\f\n\r\t", kLetters = "\\\"bfnrt";
  std::pmr::string out(text.get_allocator().resource());
  for (const char32_t c : text) {
    const size_t at = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : kEscaped.npos;
    if (at != kEscaped.npos) {
      (out += '\\') += kLetters[at];
    } else if (c >= ' ' && c < 0x7f) {
      out += static_cast<char>(c);
    } else if (c > 0xffff) {
      AppendEscape(0xd7c0 + (c >> 10), &out);
      AppendEscape(0xdc00 + (c & 0x3ff), &out);
    } else {
      AppendEscape(c, &out);
    }
  }
  return out;
}

void Add(std::pmr::string form, std::pmr::vector<std::pmr::string>* forms) {
  form.resize(form.find_last_not_of('\0') + 1);
  if (form.size() < kShortest) return;
  if (std::find(forms->begin(), forms->end(), form) != forms->end()) return;
  forms->push_back(std::move(form));
}

}  // namespace

bool IsSecretName(std::string_view name) { return HasWord(kSecretWords, name); }

bool IsPrivateName(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string_view counted : kCounted) {
    for (size_t at; (at = upper.find(counted)) != upper.npos;) upper.erase(at, counted.size());
  }
  return std::any_of(std::begin(kPrivateParts), std::end(kPrivateParts),
                     [&upper](std::string_view part) { return upper.find(part) != upper.npos; });
}

bool IsShortSecret(std::string_view name, std::string_view value) {
  if (!IsSecretName(name) || value.empty() || IsOneOf(kSwitches, value)) return false;
  // A character of UTF-8 has four bytes at most.
  if (value.size() >= 4 * kShortest) return false;
  std::byte buffer[256];
  std::pmr::monotonic_buffer_resource memory(buffer, sizeof buffer);
  return Decode(value, &memory).size() < kShortest;
}

std::pmr::vector<std::pmr::string> FormsOf(std::string_view value,
                                           std::pmr::memory_resource* memory) {
  std::pmr::vector<std::pmr::string> forms(memory);
  Add(std::pmr::string(value, memory), &forms);
  const Text text = Decode(value, memory);
  if (text.size() < kShortest) return forms;
  const char32_t last = *std::max_element(text.begin(), text.end());
  if (last < 0x100) Add(Wide(text, 1), &forms);
  Add(Wide(text, 2), &forms);
  Add(Wide(text, 4), &forms);
  Add(Json(text), &forms);
  return forms;
}

}  // namespace pylaunch::image
