#ifndef PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JSON_WRITER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JSON_WRITER_H_

#include <charconv>
#include <concepts>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pylaunch::engine {

// Writes JSON as it comes, without a tree of it. Strings are bytes, and so they go out: what of a
// file's name is not UTF-8, Python reads with `surrogateescape` (nlohmann/json would refuse it).
class JsonWriter {
 public:
  void Value(std::string_view text) {
    Separate();
    json_ += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') json_ += '\\';
      static_cast<unsigned char>(c) < ' ' ? AppendControl(c) : json_.push_back(c);
    }
    json_ += '"';
  }
  void Value(const std::string& text) { Value(std::string_view(text)); }
  void Value(const char* text) { Value(std::string_view(text)); }
  void Value(bool flag) {
    Separate();
    json_ += flag ? "true" : "false";
  }
  template <std::integral Number>
  void Value(Number number) {
    Separate();
    char digits[24];
    json_.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
  }
  void Value(const std::vector<std::string>& texts) {
    Array(texts, [this](const std::string& text) { Value(text); });
  }
  // Calls `write` for each element, which writes one value.
  template <typename List, typename Write>
  void Array(const List& list, Write write) {
    Open('[');
    for (const auto& element : list) write(element);
    Close(']');
  }
  // `write` writes the members.
  template <typename Write>
  void Object(Write write) {
    Open('{');
    write();
    Close('}');
  }

  // The name of a member, whose value comes next.
  void Key(std::string_view name) {
    Value(name);
    json_ += ':';
    first_ = true;
  }
  template <typename T>
  void Member(std::string_view name, const T& value) {
    Key(name);
    Value(value);
  }

  std::string Take() { return std::move(json_); }

 private:
  void Separate() {
    if (!first_) json_ += ',';
    first_ = false;
  }
  void Open(char bracket) {
    Separate();
    json_ += bracket;
    first_ = true;
  }
  void Close(char bracket) {
    json_ += bracket;
    first_ = false;
  }
  void AppendControl(char c) {
    char escape[8];
    std::snprintf(escape, sizeof escape, "\\u%04x", c);
    json_ += escape;
  }

  std::string json_;
  bool first_ = true;  // Of its array or object.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JSON_WRITER_H_
