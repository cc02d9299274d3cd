#include "image/secrets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>

#include "image/secret_search.h"

namespace pylaunch::image {
namespace {

using ::testing::Gt;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::vector<std::string> Forms(std::string_view value) {
  std::vector<std::string> forms;
  for (const auto& form : FormsOf(value, std::pmr::get_default_resource())) {
    forms.emplace_back(form);
  }
  return forms;
}

// As little-endian numbers of `width` bytes, less the zeros at the end.
std::string Wide(const std::u32string& text, size_t width) {
  std::string bytes;
  for (char32_t c : text) bytes.append(reinterpret_cast<const char*>(&c), width);
  while (bytes.back() == '\0') bytes.pop_back();
  return bytes;
}

// tests/whole/journal/test_secret_names.py holds --record to the same names.
TEST(Secrets, TheNameSaysSo) {
  std::ifstream file(PYLAUNCH_SECRET_NAMES);
  std::map<std::string, int> seen;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    const std::string kind = line.substr(0, line.find(' '));
    const std::string name = line.substr(std::min(line.size(), kind.size() + 1));
    EXPECT_EQ(IsSecretName(name), kind == "secret") << name;
    EXPECT_EQ(IsPrivateName(name), kind != "plain") << name;
    ++seen[kind];
  }
  EXPECT_THAT(seen, UnorderedElementsAre(Pair("secret", Gt(9)), Pair("private", Gt(9)),
                                         Pair("plain", Gt(9))));
}

TEST(Secrets, ShortIsWhatHasFewCharactersAndIsNoSwitch) {
  for (const char* value : {"2", "s3cret7", "pässwör", "1234567", "tru"}) {
    EXPECT_TRUE(IsShortSecret("API_KEY", value)) << value;
    EXPECT_FALSE(IsShortSecret("NAME", value)) << value;
  }
  for (const char* value : {"", "0", "1", "on", "True", "FALSE", "s3cret78", "pässwörd"}) {
    EXPECT_FALSE(IsShortSecret("HF_HUB_DISABLE_IMPLICIT_TOKEN", value)) << value;
  }
  EXPECT_FALSE(IsShortSecret("API_KEY", std::string(5000, 'x')));
}

TEST(Secrets, TextHasTheFormsOfPythonsStrings) {
  EXPECT_THAT(Forms("s3cret-8"),
              UnorderedElementsAre("s3cret-8", Wide(U"s3cret-8", 2), Wide(U"s3cret-8", 4)));
  EXPECT_THAT(Forms("pässwörd"),
              UnorderedElementsAre("pässwörd", "p\xe4ssw\xf6rd", Wide(U"pässwörd", 2),
                                   Wide(U"pässwörd", 4), "p\\u00e4ssw\\u00f6rd"));
  EXPECT_THAT(Forms("sécrets€"),
              UnorderedElementsAre("sécrets€", Wide(U"sécrets€", 2), Wide(U"sécrets€", 4),
                                   "s\\u00e9crets\\u20ac"));
  EXPECT_THAT(Forms("secrets😀"),
              UnorderedElementsAre(
                  "secrets😀", Wide({U's', U'e', U'c', U'r', U'e', U't', U's', 0xd83d, 0xde00}, 2),
                  Wide(U"secrets😀", 4), "secrets\\ud83d\\ude00"));
}

TEST(Secrets, UndecodableBytesAreLoneSurrogates) {
  // Not a character of their own, cut off, too long, and a surrogate.
  for (const std::string odd :
       {"\xff", "\xe2\x82", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80"}) {
    std::u32string text = U"secret-";
    for (const char c : odd) text += 0xdc00u + static_cast<unsigned char>(c);
    EXPECT_THAT(Forms("secret-" + odd),
                testing::IsSupersetOf({"secret-" + odd, Wide(text, 2), Wide(text, 4)}));
  }
}

TEST(Secrets, WhatIsShortHasItsBytesAtMost) {
  EXPECT_THAT(Forms("s3cret7"), testing::IsEmpty());
  EXPECT_THAT(Forms("pässwör"), testing::ElementsAre("pässwör"));
}

class SecretSearchTest : public testing::Test {
 protected:
  SecretSearch search_{std::pmr::get_default_resource()};
};

TEST_F(SecretSearchTest, FindsAtEveryAddressWhatLiesInItAsAWhole) {
  // Added one after the other: each makes the search look more closely.
  const std::string text = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::vector<std::string> values;
  for (size_t size : {60, 35, 34, 19, 18, 11, 10, 7}) {
    values.push_back(text.substr(values.size(), size));
    search_.Add(std::to_string(size), values.back());
    std::string memory(160, '-');
    for (size_t i = 0; i < values.size() * 96; ++i) {
      const std::string& value = values[i / 96];
      const size_t at = i % 96;
      std::fill(memory.begin(), memory.end(), '-');
      value.copy(memory.data() + at, value.size());
      const std::string name = std::to_string(value.size());
      ASSERT_EQ(search_.FindIn(memory.data(), memory.size()), name) << at;
      ASSERT_EQ(search_.FindIn(memory.data() + at, value.size()), name) << at;
      ASSERT_NE(search_.FindIn(memory.data() + at, value.size() - 1), name) << at;
      ASSERT_NE(search_.FindIn(memory.data() + at + 1, memory.size() - at - 1), name) << at;
    }
  }
  EXPECT_EQ(search_.overlap(), 59u);
}

TEST_F(SecretSearchTest, NothingIsFoundWhereNothingIs) {
  EXPECT_TRUE(search_.empty());
  const std::string memory(100, 'x');
  EXPECT_EQ(search_.FindIn(memory.data(), memory.size()), "");
  search_.Add("A", "xxxxxxxy");
  EXPECT_EQ(search_.FindIn(memory.data(), memory.size()), "");
  EXPECT_EQ(search_.FindIn(memory.data(), 0), "");
  EXPECT_EQ(search_.FindIn(memory.data() + 1, 3), "");
}

}  // namespace
}  // namespace pylaunch::image
