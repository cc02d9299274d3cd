#include "launcher/command_line/preload_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <fstream>
#include <string>

namespace pylaunch {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using Kind = PreloadEntry::Kind;

PreloadPlan Parse(std::string_view text) {
  PreloadPlan plan;
  const absl::Status status = ParsePreload(text, "f.txt", &plan);
  EXPECT_TRUE(status.ok()) << status.message();
  return plan;
}

PreloadEntry One(std::string_view line) {
  PreloadPlan plan = Parse(line);
  EXPECT_EQ(plan.entries.size(), 1u) << line;
  return plan.entries.empty() ? PreloadEntry() : plan.entries[0];
}

// The message; nothing may have been appended.
std::string Error(std::string_view text) {
  PreloadPlan plan;
  const absl::Status status = ParsePreload(text, "f.txt", &plan);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  EXPECT_TRUE(plan.empty()) << text;
  return std::string(status.message());
}

// The design's own example.
constexpr std::string_view kSample =
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION?=python       # unless already set\n"
    "from transformers import AutoConfig, BertConfig\n"
    "transformers.onnx:OnnxConfig                         # short\n"
    "import torch\n"
    "optional tensorflow.keras\n"
    "CUDA_HOME=/opt/cuda-12 torchvision.ops:nms\n"
    "A='b c # d' optional B=\"'\" import x.y, z\n"
    "from m import (a as b, c)\n"
    "call app.warm:load\n"
    "use image\n"
    "use exit full\n";

TEST(PreloadFile, DesignsExampleMeansWhatTheDesignSays) {
  const PreloadPlan plan = Parse(kSample);
  ASSERT_EQ(plan.environment.size(), 1u);
  EXPECT_EQ(plan.environment[0].name, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION");
  EXPECT_EQ(plan.environment[0].value, "python");
  EXPECT_TRUE(plan.environment[0].only_if_unset);
  ASSERT_EQ(plan.entries.size(), 9u);

  const PreloadEntry& from = plan.entries[0];
  EXPECT_EQ(from.kind, Kind::kFrom);
  EXPECT_EQ(from.module, "transformers");
  EXPECT_THAT(from.names, ElementsAre("AutoConfig", "BertConfig"));
  EXPECT_EQ(from.location.ToString(), "f.txt:2:1");
  const PreloadEntry& brief = plan.entries[1];
  EXPECT_EQ(brief.kind, Kind::kFrom);
  EXPECT_EQ(brief.module, "transformers.onnx");
  EXPECT_THAT(brief.names, ElementsAre("OnnxConfig"));
  EXPECT_EQ(brief.text, "transformers.onnx:OnnxConfig");
  EXPECT_EQ(plan.entries[2].kind, Kind::kImport);
  EXPECT_EQ(plan.entries[2].module, "torch");
  EXPECT_TRUE(plan.entries[3].optional);
  EXPECT_EQ(plan.entries[3].location.ToString(), "f.txt:5:10");
  const PreloadEntry& local = plan.entries[4];
  EXPECT_EQ(local.module, "torchvision.ops");
  ASSERT_EQ(local.env.size(), 1u);
  EXPECT_EQ(local.env[0].value, "/opt/cuda-12");
  EXPECT_EQ(local.location.column, 24);
  const PreloadEntry& call = plan.entries[8];
  EXPECT_EQ(call.kind, Kind::kCall);
  EXPECT_EQ(call.module, "app.warm");
  EXPECT_THAT(call.names, ElementsAre("load"));
}

TEST(PreloadFile, ImportOfSeveralModulesIsAnEntryForEach) {
  const PreloadPlan plan = Parse("A='b c # d' optional B=\"'\" import x.y, z # why\n");
  ASSERT_EQ(plan.entries.size(), 2u);
  EXPECT_THAT(plan.environment, IsEmpty());
  for (const PreloadEntry& entry : plan.entries) {
    EXPECT_TRUE(entry.optional);
    EXPECT_EQ(entry.text, "A='b c # d' optional B=\"'\" import x.y, z");
    ASSERT_EQ(entry.env.size(), 2u);
    EXPECT_EQ(entry.env[0].value, "b c # d");
    EXPECT_EQ(entry.env[1].value, "'");
  }
  EXPECT_EQ(plan.entries[0].module, "x.y");
  EXPECT_EQ(plan.entries[0].location.column, 28);
  EXPECT_EQ(plan.entries[1].module, "z");
  EXPECT_EQ(plan.entries[1].location.column, 40);
}

TEST(PreloadFile, LinesOfProgramsMeanWhatTheyMeanThere) {
  for (const char* line : {"from a.b import c, d", "a.b:c,d", "a.b:c , d", "from a.b import (c, d)",
                           "from a.b import(c,d,)", "from a.b import ( c as x , d as y, )",
                           "from a.b import c as d, d as c  # comment"}) {
    const PreloadEntry entry = One(line);
    EXPECT_EQ(entry.kind, Kind::kFrom) << line;
    EXPECT_EQ(entry.module, "a.b") << line;
    EXPECT_THAT(entry.names, ElementsAre("c", "d")) << line;
  }
  EXPECT_EQ(One("import numpy as np").module, "numpy");
  EXPECT_EQ(One("from as_ import as_ as asas").names[0], "as_");
  const PreloadPlan plan = Parse("optional import a.b as c, d, e as f");
  ASSERT_EQ(plan.entries.size(), 3u);
  EXPECT_EQ(plan.entries[0].module, "a.b");
  EXPECT_EQ(plan.entries[1].module, "d");
  EXPECT_EQ(plan.entries[2].module, "e");
  EXPECT_EQ(plan.entries[2].text, "optional import a.b as c, d, e as f");
}

TEST(PreloadFile, SettingsAloneAreTheProcesss) {
  const PreloadPlan plan = Parse("A=1 B?='2 3'\nimport m\nC=\n\tD=x#y # z\nE={\"a\":1}\nF=#");
  ASSERT_EQ(plan.environment.size(), 6u);
  EXPECT_EQ(plan.environment[0].value, "1");
  EXPECT_FALSE(plan.environment[0].only_if_unset);
  EXPECT_EQ(plan.environment[1].value, "2 3");
  EXPECT_TRUE(plan.environment[1].only_if_unset);
  EXPECT_EQ(plan.environment[2].value, "");
  EXPECT_EQ(plan.environment[3].value, "x#y");
  EXPECT_EQ(plan.environment[4].value, "{\"a\":1}");
  EXPECT_EQ(plan.environment[5].value, "#");  // Not after a blank: no comment.
  EXPECT_THAT(plan.entries[0].env, IsEmpty());
}

TEST(PreloadFile, BlankLinesCommentsLineEndsAndMarkAreNoEntries) {
  EXPECT_TRUE(Parse("").empty());
  EXPECT_TRUE(Parse("\n \t\n# x\n  # y\r\n\r\n").empty());
  const PreloadPlan plan = Parse("\xEF\xBB\xBFimport a\r\nimport b # c\r\nimport d");
  ASSERT_EQ(plan.entries.size(), 3u);
  EXPECT_EQ(plan.entries[0].module, "a");
  EXPECT_EQ(plan.entries[0].location.column, 1);
  EXPECT_EQ(plan.entries[1].text, "import b");
  EXPECT_EQ(plan.entries[2].location.line, 3);
}

TEST(PreloadFile, NamesMayBeNonAsciiAndWordsOfOursMayBeModules) {
  EXPECT_EQ(One("modülé.ñ:Ω").module, "modülé.ñ");
  EXPECT_THAT(One("from transformers import *").names, ElementsAre("*"));
  EXPECT_EQ(One("call:f").module, "call");
  EXPECT_EQ(One("optional.x").module, "optional.x");
  EXPECT_EQ(One("import optional").module, "optional");
  EXPECT_EQ(One("optional optional.x").module, "optional.x");
  EXPECT_EQ(One("from match import case,type").names.size(), 2u);
  EXPECT_EQ(One("fromage").module, "fromage");
  EXPECT_EQ(One("from\ta.b\timport\tc ,d").names.size(), 2u);
}

TEST(PreloadFile, LazyIsAWordBeforeAnImportOnly) {
  EXPECT_FALSE(One("import a").lazy);
  EXPECT_TRUE(One("lazy import a").lazy);
  EXPECT_EQ(One("lazy import a").text, "lazy import a");
  const PreloadPlan plan = Parse("optional lazy import a.b, c");
  ASSERT_EQ(plan.entries.size(), 2u);
  EXPECT_TRUE(plan.entries[1].lazy && plan.entries[1].optional);
  const PreloadEntry from = One("lazy  from a import b");
  EXPECT_TRUE(from.lazy);
  EXPECT_EQ(from.names, std::vector<std::string>{"b"});
  for (const char* line : {"lazy", "lazy.sub", "lazy:name", "import lazy", "from lazy import a"})
    EXPECT_FALSE(One(line).lazy) << line;
  EXPECT_EQ(One("lazy").module, "lazy");
}

TEST(PreloadFile, DirectivesAreNoEntriesAndTellTheirPlace) {
  const PreloadPlan plan = Parse("import a\n\tuse  image # now\nuse exit fast\nA=1\n");
  EXPECT_EQ(plan.entries.size(), 1u);
  EXPECT_EQ(plan.environment.size(), 1u);
  ASSERT_TRUE(plan.directives.image && plan.directives.exit);
  EXPECT_EQ(plan.directives.image->ToString(), "f.txt:2:2");
  EXPECT_EQ(plan.directives.exit->ToString(), "f.txt:3:1");
  EXPECT_TRUE(plan.directives.fast_exit);
  const Directives full = Parse("use exit full\r\n").directives;
  EXPECT_TRUE(full.exit && !full.fast_exit && !full.image);
  const Directives none = Parse("# use image\n\nimport use\nuse.x\nuse:image\n").directives;
  EXPECT_FALSE(none.image || none.exit);
}

TEST(PreloadFile, ADirectiveMayBeRepeatedAndTheFirstOneCounts) {
  const Directives twice = Parse("use image\nuse exit full\nuse image\nuse exit full").directives;
  EXPECT_EQ(twice.image->ToString(), "f.txt:1:1");
  EXPECT_EQ(twice.exit->ToString(), "f.txt:2:1");
}

TEST(PreloadFile, DirectivesThatContradictNameBothPlaces) {
  EXPECT_EQ(Error("use exit fast\nimport a\n  use exit full  # no\n"),
            "f.txt:3:3: 'use exit full' contradicts another line\n"
            "      use exit full  # no\n"
            "      ^\n"
            "  cause: f.txt:1:1 says 'use exit fast'\n"
            "  hint:  leave one of them out; --exit MODE and PYLAUNCH_EXIT win over files");
  PreloadPlan plan = Parse("use exit full\nuse image");
  const absl::Status status = ParsePreload("import b\nuse exit fast", "g.txt", &plan);
  EXPECT_THAT(std::string(status.message()),
              AllOf(StartsWith("g.txt:2:1: "), HasSubstr("cause: f.txt:1:1 says 'use exit full'")));
  EXPECT_TRUE(plan.entries.empty() && !plan.directives.fast_exit && plan.directives.image);
}

TEST(PreloadFile, ErrorNamesFileLineColumnShowsTheLineAndHints) {
  EXPECT_EQ(Error("# x\n\nfrom transformers imprt AutoConfig  # y\n"),
            "f.txt:3:19: expected 'import' after the module's name\n"
            "    from transformers imprt AutoConfig  # y\n"
            "                      ^\n"
            "  hint:  from MODULE import NAME[, NAME...]");
  // Columns are code points, tabs stay tabs.
  EXPECT_THAT(Error("\tü\t("), StartsWith("f.txt:1:4: unexpected '('\n    \tü\t(\n    \t \t^\n"));
}

struct Wrong {
  const char* line;
  const char* where;
  const char* says;
};

TEST(PreloadFile, EveryMistakeHasItsPlaceAndItsHint) {
  const Wrong cases[] = {
      {"from . import x", ":6: ", "relative"},
      {"from .a import x", ":6: ", "full names only"},
      {"a as b", ":3: ", "'as' means nothing"},
      {"a:b as c", ":5: ", "leave it out"},
      {"import a as", ":12: ", "expected a name after 'as'"},
      {"import a as b.c", ":14: ", "unexpected '.'"},
      {"from a import b as None", ":20: ", "keyword 'None'"},
      {"from a import * as b", ":17: ", "'as' means nothing"},
      {"from a import (", ":15: ", "not closed on this line"},
      {"from a import (b,  # c", ":15: ", "an entry is one line"},
      {"from a import (b", ":15: ", "not closed on this line"},
      {"from a import (b c)", ":18: ", "unexpected 'c'"},
      {"from a import ()", ":16: ", "expected a name after 'import'"},
      {"from a import (b,,)", ":18: ", "expected a name after ','"},
      {"from a import (*)", ":16: ", "expected a name after 'import'"},
      {"from a import (b) as c", ":19: ", "'as' means nothing"},
      {"from a import b,", ":17: ", "expected a name after ','"},
      {"from a import *, b", ":16: ", "unexpected ','"},
      {"from a import", ":14: ", "expected a name after 'import'"},
      {"from a", ":7: ", "expected 'import'"},
      {"from", ":5: ", "expected a module after 'from'"},
      {"import", ":7: ", "expected a module after 'import'"},
      {"import a,", ":10: ", "expected a module after ','"},
      {"import a.", ":10: ", "expected a name after '.'"},
      {"import a..b", ":10: ", "expected a name after '.'"},
      {"import a:b", ":9: ", "unexpected ':'"},
      {"import class", ":8: ", "keyword 'class'"},
      {"from a import None", ":15: ", "keyword 'None'"},
      {"a.lambda:x", ":3: ", "keyword 'lambda'"},
      {"a:b:c", ":4: ", "unexpected ':'"},
      {"a:b,", ":5: ", "expected a name after ','"},
      {"a:b c", ":5: ", "MODULE:NAME[,NAME...]"},
      {"a:*", ":3: ", "expected a name after ':'"},
      {"a:", ":3: ", "expected a name after ':'"},
      {"a-b", ":2: ", "unexpected '-'"},
      {"a b", ":3: ", "unexpected 'b'"},
      {"1a", ":1: ", "expected a module"},
      {"import a# b", ":9: ", "comment needs a blank"},
      {"call a.f", ":9: ", "expected ':'"},
      {"call a:f()", ":9: ", "without parentheses"},
      {"call", ":5: ", "expected a module after 'call'"},
      {"use", ":4: ", "import use"},
      {"use # x", ":5: ", "expected 'image' or 'exit' after 'use'"},
      {"use images", ":5: ", "unknown word after 'use'"},
      {"use Image", ":5: ", "unknown word after 'use'"},
      {"use a.b", ":5: ", "unknown word after 'use'"},
      {"use exit", ":9: ", "expected 'fast' or 'full' after 'use exit'"},
      {"use exit slow", ":10: ", "unknown word after 'use exit'"},
      {"use image fast", ":11: ", "a line of its own"},
      {"use image# x", ":5: ", "unknown word after 'use'"},
      {"use exit fast full", ":15: ", "a line of its own"},
      {"optional use image", ":10: ", "a line of its own"},
      {"A=1 use image", ":5: ", "a line of its own"},
      {"optional", ":9: ", "import optional"},
      {"optional A=1", ":13: ", "expected an entry"},
      {"optional optional a", ":10: ", "twice"},
      {"torch==2.0", ":7: ", "no versions here"},
      {"torch>=2.0", ":6: ", "unexpected '>'"},
      {"A = 1", ":3: ", "without blanks around '='"},
      {"é=1", ":2: ", "ASCII"},
      {"A='x", ":3: ", "not closed"},
      {"A='x'y", ":6: ", "expected a blank after the closing quote"},
      {"a\rb", ":2: ", "unexpected '?'"},
      {"a\x1b[31m", ":2: ", "unexpected '?'"},
  };
  for (const Wrong& wrong : cases) {
    const std::string error = Error(std::string("import fine\n") + wrong.line);
    EXPECT_THAT(error, AllOf(StartsWith(std::string("f.txt:2") + wrong.where),
                             HasSubstr(wrong.says), HasSubstr("\n  hint:  ")))
        << wrong.line;
    EXPECT_EQ(error.find_first_of("\r\x1b"), std::string::npos) << error;
  }
}

TEST(PreloadFile, BytesThatAreNoUtf8AreRefusedWhereverTheyStand) {
  for (const char* bad : {"\xFF", "\xC0\xAF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                          "\xC3", "\xE2\x82", "\x80"}) {
    EXPECT_THAT(Error(std::string("import é # ") + bad),
                StartsWith("f.txt:1:12: this is not UTF-8"));
  }
  EXPECT_THAT(Error(std::string_view("a\0b", 3)), StartsWith("f.txt:1:2: a NUL byte\n    a?b\n"));
  EXPECT_EQ(One("\xF0\x9D\x94\xA7.\xED\x9F\xBF").module, "\xF0\x9D\x94\xA7.\xED\x9F\xBF");
}

TEST(PreloadFile, LongLineIsCutAroundTheCaret) {
  const std::string error =
      Error("import " + std::string(100000, 'a') + " ! " + std::string(100000, 'b'));
  EXPECT_THAT(error, StartsWith("f.txt:1:100009: unexpected '!'\n    ...aaa"));
  EXPECT_LT(error.size(), 600u);
  const size_t line = error.find('\n') + 1, caret = error.find('\n', line) + 1;
  EXPECT_EQ(error[line + error.find('^', caret) - caret], '!');
}

TEST(PreloadFile, AnErrorLeavesThePlanAsItWas) {
  PreloadPlan plan = Parse("A=1\nimport a");
  EXPECT_FALSE(ParsePreload("B=2\nimport b\nimport !", "g", &plan).ok());
  EXPECT_EQ(plan.entries.size(), 1u);
  EXPECT_EQ(plan.environment.size(), 1u);
}

// Crashes and sanitizer reports are what this looks for; the checks inside hold for any input.
void CheckAnything(std::string_view text) {
  PreloadPlan plan;
  const absl::Status status = ParsePreload(text, "f", &plan);
  if (!status.ok()) {
    EXPECT_TRUE(plan.empty());
    EXPECT_THAT(std::string(status.message()), AllOf(StartsWith("f:"), HasSubstr("\n  hint:  ")));
  }
  for (const PreloadEntry& entry : plan.entries) {
    EXPECT_FALSE(entry.module.empty());
    EXPECT_FALSE(entry.text.empty());
    EXPECT_EQ(entry.names.empty(), entry.kind == Kind::kImport);
  }
}

TEST(PreloadFile, NoPrefixAndNoByteChangedCrashesIt) {
  const std::string sample(kSample);
  // Letters are alike to the parser, and so are digits; of UTF-8, first and further bytes.
  std::string bytes = "Zaz09\x80\xbf\xc3\xe2\xf4\xff";
  for (int byte = 0; byte < 128; ++byte) {
    if (std::isalnum(byte) == 0) bytes += static_cast<char>(byte);
  }
  for (size_t i = 0; i <= sample.size(); ++i) CheckAnything(sample.substr(0, i));
  for (size_t i = 0; i < sample.size(); ++i) {
    for (const char byte : bytes) {
      std::string changed = sample;
      changed[i] = byte;
      CheckAnything(changed);
    }
  }
}

TEST(PreloadArgument, FilesAreToldFromLines) {
  for (const char* file : {"@f", "./f", "a/b", "/f", "f.txt", "@"})
    EXPECT_TRUE(IsPreloadFile(file));
  for (const char* line : {"", "f", "a.b:c", "import a", "f.txt.b"}) {
    EXPECT_FALSE(IsPreloadFile(line)) << line;
  }
}

class PreloadArgumentInFolder : public ::testing::Test {
 protected:
  PreloadArgumentInFolder() {
    char folder[] = "/tmp/pylaunch-preload-XXXXXX";
    folder_ = mkdtemp(folder);
  }
  ~PreloadArgumentInFolder() override {
    unlink((folder_ + "/f.txt").c_str());
    rmdir(folder_.c_str());
  }
  absl::Status Add(const std::string& argument) {
    return AddPreloadArgument(argument, "--preload", &plan_);
  }
  std::string folder_;
  PreloadPlan plan_;
};

TEST_F(PreloadArgumentInFolder, FileAndLineAppendInOrderEachUnderItsName) {
  std::ofstream(folder_ + "/f.txt") << "\nimport a\n";
  ASSERT_TRUE(Add("@" + folder_ + "/f.txt").ok());
  ASSERT_TRUE(Add("import b").ok());
  ASSERT_TRUE(Add("").ok());
  ASSERT_EQ(plan_.entries.size(), 2u);
  EXPECT_EQ(plan_.entries[0].location.ToString(), folder_ + "/f.txt:2:1");
  EXPECT_EQ(plan_.entries[1].location.ToString(), "--preload:1:1");
}

TEST_F(PreloadArgumentInFolder, MissingFileIsNotFoundAndSaysWhatAFileIs) {
  const absl::Status status = Add(folder_ + "/f.txt");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              AllOf(StartsWith(folder_ + "/f.txt: no such"), HasSubstr("begins with '@'")));
  EXPECT_EQ(Add("A=/x torch").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Add("@").code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PreloadArgumentInFolder, FolderAndEndlessFileAreRefused) {
  EXPECT_THAT(std::string(Add(folder_).message()), EndsWith("Is a directory"));
  EXPECT_THAT(std::string(Add("/dev/zero").message()), EndsWith("File too large"));
  std::ofstream(folder_ + "/f.txt") << "import a\n";
  chmod((folder_ + "/f.txt").c_str(), 0);
  if (geteuid() == 0) return;  // Root reads everything.
  EXPECT_THAT(std::string(Add(folder_ + "/f.txt").message()), EndsWith("Permission denied"));
}

}  // namespace
}  // namespace pylaunch
