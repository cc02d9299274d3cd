#include "launcher/command_line/preload_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "launcher/contract/text.h"

namespace pylaunch {
namespace {

// Far above any list written by hand; stops at /dev/zero.
constexpr size_t kMaxFileSize = 16 << 20;

constexpr std::string_view kForms =
    "MODULE, MODULE:NAME, from MODULE import NAME, import MODULE or call MODULE:FUNCTION";

constexpr std::string_view kDirectives =
    "use image, use exit fast or use exit full; a module of that name: import use";

// Python's hard keywords: no module or name can be called so.
constexpr std::string_view kKeywords[] = {
    "False", "None",     "True",  "and",    "as",   "assert", "async",  "await",    "break",
    "class", "continue", "def",   "del",    "elif", "else",   "except", "finally",  "for",
    "from",  "global",   "if",    "import", "in",   "is",     "lambda", "nonlocal", "not",
    "or",    "pass",     "raise", "return", "try",  "while",  "with",   "yield"};

bool IsBlank(char c) { return c == ' ' || c == '\t'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
// Which letters Python allows beyond ASCII is left to Python.
bool IsNameStart(char c) { return IsLetter(c) || static_cast<unsigned char>(c) >= 0x80; }

// Bytes of the code point at `at`, or 0 if it is no UTF-8 (overlong, surrogate and out of range
// included).
size_t CodePointLength(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first < 0xC2   ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Only the second byte can still be out of range.
  const bool bad = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F) ||
                   (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F);
  return bad ? 0 : length;
}

// The line as columns that can be shown on a terminal: one string a code point, '?' for what would
// move the cursor or is no text.
std::vector<std::string> Columns(std::string_view line) {
  std::vector<std::string> columns;
  for (size_t at = 0; at < line.size();) {
    const size_t length = CodePointLength(line, at);
    const auto lead = static_cast<unsigned char>(line[at]);
    const bool control = (lead < 0x20 && lead != '\t') || lead == 0x7F ||
                         (lead == 0xC2 && static_cast<unsigned char>(line[at + 1]) < 0xA0);
    columns.emplace_back(length == 0 || control ? "?" : std::string(line.substr(at, length)));
    at += std::max<size_t>(length, 1);
  }
  return columns;
}

// What is wrong with one line.
struct Mistake {
  size_t at = 0;
  std::string what;
  std::string cause;  // Or empty.
  std::string hint;
};

// In the house shape.
std::string Report(Location where, std::string_view line, const Mistake& mistake) {
  constexpr size_t kWidth = 120, kLeft = 60;  // A longer line is cut to what surrounds the caret.
  const std::vector<std::string> columns = Columns(line);
  const size_t caret = Columns(line.substr(0, mistake.at)).size();
  where.column = static_cast<int>(caret) + 1;
  const size_t first = caret < kWidth ? 0 : caret - kLeft;
  std::string shown = first > 0 ? "..." : "", under = first > 0 ? "   " : "";
  for (size_t i = first; i < columns.size() && i < first + kWidth; ++i) {
    shown += columns[i];
    if (i < caret) under += columns[i] == "\t" ? "\t" : " ";
  }
  if (first + kWidth < columns.size()) shown += "...";
  return Cat(where.ToString(), ": ", mistake.what, "\n    ", shown, "\n    ", under, "^",
             mistake.cause.empty() ? "" : "\n  cause: ", mistake.cause,
             "\n  hint:  ", mistake.hint);
}

// Parses one line. A method that returns false has noted what is wrong; nothing is appended then.
class LineParser {
 public:
  LineParser(std::string_view line, Location where) : line_(line), where_(std::move(where)) {}

  absl::Status ParseInto(PreloadPlan* plan) {
    directives_ = plan->directives;
    if (!CheckText() || !Line()) {
      return absl::InvalidArgumentError(Report(where_, line_, mistake_));
    }
    plan->directives = std::move(directives_);
    auto& environment = entries_.empty() ? settings_ : none_;
    std::move(environment.begin(), environment.end(), std::back_inserter(plan->environment));
    std::move(entries_.begin(), entries_.end(), std::back_inserter(plan->entries));
    return absl::OkStatus();
  }

 private:
  bool Fail(size_t at, std::string what, std::string_view hint) {
    mistake_ = {at, std::move(what), "", std::string(hint)};
    return false;
  }

  bool CheckText() {
    for (size_t at = 0, length; at < line_.size(); at += length) {
      length = CodePointLength(line_, at);
      if (length == 0) return Fail(at, "this is not UTF-8", "save the file as UTF-8");
      if (line_[at] == '\0') return Fail(at, "a NUL byte", "a preload file is plain text");
    }
    return true;
  }

  char Peek() const { return at_ < line_.size() ? line_[at_] : '\n'; }
  void SkipBlanks() {
    while (IsBlank(Peek())) ++at_;
  }
  bool AtEnd() {
    SkipBlanks();
    return at_ == line_.size() || (line_[at_] == '#' && (at_ == 0 || IsBlank(line_[at_ - 1])));
  }
  bool Take(std::string_view what) {
    if (!line_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  // Takes `word` if it stands here and a blank or the end follows.
  bool TakeWord(std::string_view word) {
    const size_t begin = at_;
    if (Take(word) && (at_ == line_.size() || IsBlank(Peek()))) return true;
    at_ = begin;
    return false;
  }
  std::string_view TakeIdentifier() {
    const size_t begin = at_;
    while (IsNameStart(Peek()) || (at_ > begin && IsDigit(Peek()))) ++at_;
    return line_.substr(begin, at_ - begin);
  }

  bool Line() {
    SkipBlanks();
    const size_t begin = at_;
    if (TakeWord("use")) return Directive(begin);
    if (!Prefixes()) return false;
    if (AtEnd()) {
      return !optional_ || Fail(at_, "expected an entry after 'optional'",
                                "optional MODULE; a module of that name: import optional");
    }
    PlaceAt(at_);
    if (!What()) return false;
    if (!AtEnd()) return Unexpected();
    size_t end = at_;
    while (IsBlank(line_[end - 1])) --end;
    for (PreloadEntry& entry : entries_) entry.text = line_.substr(begin, end - begin);
    return true;
  }

  void PlaceAt(size_t at) {
    where_.column = static_cast<int>(Columns(line_.substr(0, at)).size()) + 1;
  }

  // Behind 'use', which is at `begin`.
  bool Directive(size_t begin) {
    PlaceAt(begin);
    if (AtEnd()) return Fail(at_, "expected 'image' or 'exit' after 'use'", kDirectives);
    if (TakeWord("image")) {
      if (!directives_.image) directives_.image = where_;
    } else if (!TakeWord("exit")) {
      return Fail(at_, "unknown word after 'use'", kDirectives);
    } else if (!Exit(begin)) {
      return false;
    }
    return AtEnd() || Fail(at_, "a directive wants a line of its own", kDirectives);
  }

  bool Exit(size_t begin) {
    if (AtEnd()) return Fail(at_, "expected 'fast' or 'full' after 'use exit'", kDirectives);
    const bool fast = TakeWord("fast");
    if (!fast && !TakeWord("full")) {
      return Fail(at_, "unknown word after 'use exit'", kDirectives);
    }
    if (directives_.exit && directives_.fast_exit != fast) {
      Fail(begin, Cat("'use exit ", fast ? "fast" : "full", "' contradicts another line"),
           "leave one of them out; --exit MODE and PYLAUNCH_EXIT win over files");
      mistake_.cause = Cat(directives_.exit->ToString(), " says 'use exit ",
                           directives_.fast_exit ? "fast" : "full", "'");
      return false;
    }
    if (!directives_.exit) directives_.exit = where_;
    directives_.fast_exit = fast;
    return true;
  }

  bool Prefixes() {
    while (!AtEnd()) {
      const size_t begin = at_;
      if (TakeWord("optional")) {
        if (optional_) return Fail(begin, "'optional' stands here twice", "leave one out");
        optional_ = true;
        continue;
      }
      while (IsLetter(Peek()) || (at_ > begin && IsDigit(Peek()))) ++at_;
      EnvSetting setting;
      setting.name = line_.substr(begin, at_ - begin);
      setting.only_if_unset = Take("?=");
      if (setting.name.empty() || !(setting.only_if_unset || Take("="))) {
        at_ = begin;
        return true;
      }
      if (!Value(&setting.value)) return false;
      settings_.push_back(std::move(setting));
    }
    return true;
  }

  bool Value(std::string* value) {
    const size_t begin = at_;
    if (Peek() == '=') {  // A line of requirements.txt.
      return Fail(at_, "a value that begins with '=' needs quotes",
                  "NAME='=...'; no versions here: name the module alone");
    }
    const char quote = Peek();
    if (quote != '\'' && quote != '"') {
      while (at_ < line_.size() && !IsBlank(Peek())) ++at_;
      *value = line_.substr(begin, at_ - begin);
      return true;
    }
    const size_t end = line_.find(quote, begin + 1);
    if (end == line_.npos) return Fail(begin, "the quote is not closed", "NAME='value'");
    at_ = end + 1;
    if (at_ < line_.size() && !IsBlank(Peek())) {
      return Fail(at_, "expected a blank after the closing quote",
                  "quotes hold the whole value; the other kind of quote may stand inside");
    }
    *value = line_.substr(begin + 1, end - begin - 1);
    return true;
  }

  // `lazy` is a word before 'import' and 'from' only, as in Python.
  void TakeLazy() {
    const size_t begin = at_;
    if (!TakeWord("lazy")) return;
    SkipBlanks();
    const size_t next = at_;
    lazy_ = TakeWord("import") || TakeWord("from");
    at_ = lazy_ ? next : begin;
  }

  bool What() {
    TakeLazy();
    if (TakeWord("from")) return From();
    if (TakeWord("import")) return Import();
    if (TakeWord("call")) return Call();
    if (const size_t begin = at_; TakeWord("use")) {
      return Fail(begin, "a directive wants a line of its own", kDirectives);
    }
    form_ = kForms;
    PreloadEntry* entry = Add(PreloadEntry::Kind::kImport);
    if (!Module("a module", &entry->module)) return false;
    if (!Take(":")) return true;
    form_ = "MODULE:NAME[,NAME...]";
    entry->kind = PreloadEntry::Kind::kFrom;
    do {
      const char* what = entry->names.empty() ? "a name after ':'" : "a name after ','";
      if (!Name(what, &entry->names.emplace_back())) return false;
    } while (TakeComma());
    return true;
  }

  bool From() {
    form_ = "from MODULE import NAME[, NAME...]";
    PreloadEntry* entry = Add(PreloadEntry::Kind::kFrom);
    if (!Module("a module after 'from'", &entry->module)) return false;
    const bool opens = !AtEnd() && line_.substr(at_).starts_with("import(");
    if (AtEnd() || !(opens ? Take("import") : TakeWord("import"))) {
      return Fail(at_, "expected 'import' after the module's name", form_);
    }
    SkipBlanks();
    if (Take("*")) {
      entry->names.push_back("*");
      return true;
    }
    const size_t begin = at_;
    const bool open = Take("(");
    do {
      SkipBlanks();
      if (open && Peek() == ')' && !entry->names.empty()) break;  // After a comma.
      if (open && AtEnd()) return NotClosed(begin);
      const char* what = entry->names.empty() ? "a name after 'import'" : "a name after ','";
      if (!Name(what, &entry->names.emplace_back()) || !Alias()) return false;
    } while (TakeComma());
    if (!open || Take(")")) return true;
    return AtEnd() ? NotClosed(begin) : Unexpected();
  }

  bool NotClosed(size_t begin) {
    return Fail(begin, "the parenthesis is not closed on this line",
                "an entry is one line: from MODULE import NAME, NAME");
  }

  // Means nothing, since preloading binds no names: lines may come out of a program.
  bool Alias() {
    SkipBlanks();
    std::string alias;
    return !TakeWord("as") || Name("a name after 'as'", &alias);
  }

  bool Import() {
    form_ = "import MODULE[, MODULE...]";
    do {
      SkipBlanks();
      if (!entries_.empty()) PlaceAt(at_);
      PreloadEntry* entry = Add(PreloadEntry::Kind::kImport);
      const char* what = entries_.size() == 1 ? "a module after 'import'" : "a module after ','";
      if (!Module(what, &entry->module) || !Alias()) return false;
    } while (TakeComma());
    return true;
  }

  bool Call() {
    form_ = "call MODULE:FUNCTION; a module of that name: import call";
    PreloadEntry* entry = Add(PreloadEntry::Kind::kCall);
    if (!Module("a module after 'call'", &entry->module)) return false;
    if (!Take(":")) return Fail(at_, "expected ':' and a function after the module's name", form_);
    return Name("a function after ':'", &entry->names.emplace_back());
  }

  bool TakeComma() {
    SkipBlanks();
    return Take(",");
  }

  PreloadEntry* Add(PreloadEntry::Kind kind) {
    PreloadEntry& entry = entries_.emplace_back();
    entry.kind = kind;
    entry.location = where_;
    entry.optional = optional_;
    entry.lazy = lazy_;
    entry.env = settings_;
    return &entry;
  }

  bool Module(const char* what, std::string* module) {
    SkipBlanks();
    if (Peek() == '.') {
      return Fail(at_, "a relative module name",
                  "a preload file lies in no package: full names only");
    }
    for (;;) {
      std::string part;
      if (!Name(module->empty() ? what : "a name after '.'", &part)) return false;
      *module += part;
      if (!Take(".")) return true;
      *module += '.';
    }
  }

  bool Name(std::string_view what, std::string* name) {
    SkipBlanks();
    const size_t begin = at_;
    *name = TakeIdentifier();
    if (name->empty()) return Fail(at_, Cat("expected ", what), form_);
    if (std::find(std::begin(kKeywords), std::end(kKeywords), *name) == std::end(kKeywords)) {
      return true;
    }
    return Fail(begin, Cat("expected ", what, ", not Python's keyword '", *name, "'"), form_);
  }

  // Something follows that belongs to no entry.
  bool Unexpected() {
    const size_t begin = at_;
    if (Peek() == '#') return Fail(at_, "a comment needs a blank before it", "MODULE  # comment");
    if (TakeWord("as")) {
      return Fail(begin, "'as' means nothing here", "leave it out: preloading binds no names");
    }
    const std::string found = Columns(line_.substr(at_))[0];
    if (found == "=" || found == "?") {
      return Fail(at_, Cat("unexpected '", found, "'"),
                  "NAME=value without blanks around '='; NAME of ASCII letters, digits and '_'");
    }
    const char* parentheses = found == "(" ? ", without parentheses" : "";
    return Fail(at_, Cat("unexpected '", found, "'"), Cat(form_, parentheses));
  }

  const std::string_view line_;
  Location where_;
  size_t at_ = 0;
  bool optional_ = false;
  bool lazy_ = false;
  std::string_view form_;  // How the entry being read should look, for hints.
  std::vector<EnvSetting> settings_, none_;
  std::vector<PreloadEntry> entries_;
  Directives directives_;
  Mistake mistake_;
};

// Reads a preload file whole; it may be a pipe (`--preload @/dev/stdin`).
absl::Status ReadFile(const std::string& name, std::string* text) {
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC);
  int error = fd < 0 ? errno : 0;
  while (error == 0 && text->size() <= kMaxFileSize) {
    char buffer[16384];
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got == 0) break;
    if (got > 0) text->append(buffer, static_cast<size_t>(got));
    if (got < 0 && errno != EINTR) error = errno;
  }
  if (fd >= 0) close(fd);
  if (error == 0 && text->size() > kMaxFileSize) error = EFBIG;
  if (error == 0) return absl::OkStatus();
  if (error == ENOENT || error == ENOTDIR) {
    return absl::NotFoundError(
        Cat(name,
            ": no such preload file\n  hint:  an argument of --preload is a file if it begins "
            "with '@', contains '/' or ends in '.txt'; an entry that does must stand in a file"));
  }
  return absl::FailedPreconditionError(
      Cat(name, ": cannot read this preload file\n  cause: ", std::strerror(error)));
}

}  // namespace

bool IsPreloadFile(std::string_view argument) {
  return argument.starts_with('@') || argument.find('/') != argument.npos ||
         argument.ends_with(".txt");
}

absl::Status ParsePreload(std::string_view text, std::string_view source, PreloadPlan* plan) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  PreloadPlan parsed;
  parsed.directives = plan->directives;
  for (int number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    LineParser parser(line, {std::string(source), number, 1});
    if (absl::Status status = parser.ParseInto(&parsed); !status.ok()) return status;
  }
  std::move(parsed.environment.begin(), parsed.environment.end(),
            std::back_inserter(plan->environment));
  std::move(parsed.entries.begin(), parsed.entries.end(), std::back_inserter(plan->entries));
  plan->directives = std::move(parsed.directives);
  return absl::OkStatus();
}

absl::Status AddPreloadArgument(std::string_view argument, std::string_view inline_source,
                                PreloadPlan* plan) {
  if (!IsPreloadFile(argument)) return ParsePreload(argument, inline_source, plan);
  const std::string name(argument.starts_with('@') ? argument.substr(1) : argument);
  if (name.empty()) {
    return absl::InvalidArgumentError(
        Cat(inline_source, ": no file name after '@'\n  hint:  @FILE"));
  }
  std::string text;
  if (absl::Status status = ReadFile(name, &text); !status.ok()) return status;
  return ParsePreload(text, name, plan);
}

}  // namespace pylaunch
