#include "launcher/command_line/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "launcher/command_line/completion.h"

namespace pylaunch {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

Words Split(const std::string& line) {
  std::istringstream in(line);
  Words words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

Options Parse(const Words& argv, const Words& environment = {}) {
  absl::StatusOr<Options> options = ParseOptions(argv, environment);
  EXPECT_TRUE(options.ok()) << options.status();
  return options.ok() ? *options : Options();
}

Options Parse(const std::string& line, const Words& environment = {}) {
  return Parse(Split(line), environment);
}

// The message; empty if there was no error.
std::string Error(const Words& argv, const Words& environment = {}) {
  const absl::Status status = ParseOptions(argv, environment).status();
  EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

// Command lines of Python's, ours nowhere: "|" stands where CPython stops reading options.
constexpr const char* kPythonLines[] = {
    "python |",
    "python | script.py --explain -E",
    "python | - --explain",
    "python -B -u | script.py",
    "python -Bu | -c cmd --explain",
    "python | -c --explain",
    "python -I | -mpkg --explain",
    "python -B | -- --explain",
    "python | -Bc --explain --stats",
    "python | -Bmpkg --explain",
    "python | -ccmd --explain",
    "python -W error -X importtime | x.py",
    "python -Werror -Ximporttime | x.py",
    "python -BW --explain | x.py",
    "python -X --explain | x.py",
    "python -W | ",
    "python --check-hash-based-pycs --explain | x.py",
    "python --help-all --help-env --help-xoptions | x.py",
    "python -h -V -? | x.py",
    "python | -J --explain",
    "python | -Z --explain",
    "python | -B- --explain",
    "python -B-help-all | x.py",
    "python -B-check-hash-based-pycs --explain | x.py",
    "python -bdEiOPqRsStvx | x.py",
};

TEST(Options, EveryPythonCommandLineIsPassedOnUntouched) {
  for (const char* line : kPythonLines) {
    Words argv = Split(line);
    argv.erase(std::find(argv.begin(), argv.end(), "|"));
    const Options options = Parse(argv);
    EXPECT_EQ(options.python_argv, argv) << line;
    EXPECT_FALSE(options.explain) << line;
    EXPECT_FALSE(options.stats) << line;
  }
}

TEST(Options, OursAreReadUpToWhereCPythonStopsAndNoFurther) {
  for (const char* line : kPythonLines) {
    Words argv = Split(line);
    const auto bar = std::find(argv.begin(), argv.end(), "|");
    const size_t stop = bar - argv.begin();
    argv.erase(bar);
    if (std::string_view(line).ends_with("-W | ")) continue;  // There ours would be -W's value.
    Words before = argv, after = argv;
    before.insert(before.begin() + stop, {"--stats", "--python", "--x=y"});
    before[stop + 2] = "x=y";
    const Options options = Parse(before);
    EXPECT_EQ(options.python_argv, argv) << line;
    EXPECT_TRUE(options.stats) << line;
    EXPECT_EQ(options.python, "x=y") << line;
    if (stop == argv.size()) continue;
    after.insert(after.begin() + stop + 1, "--stats");
    EXPECT_EQ(Parse(after).python_argv, after) << line;
    EXPECT_FALSE(Parse(after).stats) << line;
  }
}

TEST(Options, NoArgumentsAtAllIsNoError) {
  EXPECT_THAT(Parse(Words{}).python_argv, IsEmpty());
  EXPECT_THAT(Parse(Words{"pylaunch"}).python_argv, ElementsAre("pylaunch"));
  EXPECT_THAT(Parse(Words{"pylaunch", "", "--explain"}).python_argv,
              ElementsAre("pylaunch", "", "--explain"));
}

TEST(Options, ValuesAreTakenAttachedAndSeparate) {
  const Options options =
      Parse("p --python=py -B --cache dir --cache-mode=refresh --explain --stats x.py");
  EXPECT_EQ(options.python, "py");
  EXPECT_EQ(options.cache, "dir");
  EXPECT_EQ(options.cache_mode, CacheMode::kRefresh);
  EXPECT_TRUE(options.explain && options.stats);
  EXPECT_FALSE(options.help || options.version);
  EXPECT_THAT(options.python_argv, ElementsAre("p", "-B", "x.py"));
}

TEST(Options, SecretsAreAllowedByNameAlone) {
  EXPECT_THAT(Parse("p --image-allow=HF_TOKEN,,API_KEY, x.py").image_allow,
              ElementsAre("HF_TOKEN", "API_KEY"));
  EXPECT_THAT(Error({"p", "--image-allow", "HF_TOKEN=abc", "x.py"}),
              AllOf(HasSubstr("--image-allow"), Not(HasSubstr("abc"))));
}

TEST(Options, TheProgramBeginsWhereCPythonStopsReadingOptions) {
  for (const char* line : kPythonLines) {
    Words argv = Split(line);
    const auto stop = std::find(argv.begin(), argv.end(), "|");
    const size_t program = static_cast<size_t>(stop - argv.begin());
    argv.erase(stop);
    EXPECT_EQ(Parse(argv).program, program) << line;
    argv.insert(argv.begin() + 1, "--doctor");
    EXPECT_EQ(Parse(argv).program, program) << line;
  }
}

TEST(Options, DoctorAndItsReport) {
  const Options options = Parse("p --doctor -B --json x.py --json");
  EXPECT_TRUE(options.doctor && options.json);
  EXPECT_THAT(options.python_argv, ElementsAre("p", "-B", "x.py", "--json"));
  EXPECT_TRUE(Parse("p x.py", {"PYLAUNCH_DOCTOR=1"}).doctor);
  EXPECT_TRUE(Parse("p --json", {"PYLAUNCH_DOCTOR=yes"}).json);
  EXPECT_FALSE(Parse("p -E x.py", {"PYLAUNCH_DOCTOR=1"}).doctor);
  EXPECT_THAT(
      Error({"p", "--json", "x.py"}),
      AllOf(StartsWith("option '--json'"), HasSubstr("\n  hint:  pylaunch --doctor --json")));
}

TEST(Options, ToolsOfTheArchive) {
  EXPECT_TRUE(Parse("p --verify --json").verify);
  EXPECT_TRUE(Parse("p --prune").prune);
  EXPECT_TRUE(Parse("p", {"PYLAUNCH_PRUNE=1"}).prune);
  const Options build = Parse("p --build -O json email --stats");
  EXPECT_TRUE(build.build && !build.stats);
  EXPECT_THAT(build.python_argv, ElementsAre("p", "-O", "json", "email", "--stats"));
  EXPECT_THAT(Error({"p", "--verify", "--prune"}),
              StartsWith("only one of --verify and --prune at a time"));
}

TEST(Options, ImageBuildIsForTheCommandLineAfterIt) {
  const Options options = Parse("p --image-build --preload=m -O train.py --stats");
  EXPECT_TRUE(options.image_build && !options.image && !options.stats);
  EXPECT_THAT(options.python_argv, ElementsAre("p", "-O", "train.py", "--stats"));
  EXPECT_TRUE(Parse("p x.py", {"PYLAUNCH_IMAGE_BUILD=1"}).image_build);
  EXPECT_TRUE(Parse("p --image --image-build --json x.py").json);
  EXPECT_THAT(Error({"p", "--image-build", "--cache-mode=off", "x.py"}),
              StartsWith("--image-build writes what --cache-mode off does not"));
  EXPECT_THAT(Error({"p", "--image-build", "--build"}), StartsWith("only one of"));
  EXPECT_EQ(Parse("p --image-build --cpu x86-64-v3 x.py").cpu, image::CpuLevel::kV3);
  EXPECT_EQ(Parse("p --image-build x.py").cpu, image::CpuLevel::kOwn);
  EXPECT_THAT(Error({"p", "--cpu=x86-64-v3", "x.py"}), StartsWith("--cpu goes with --image-build"));
  EXPECT_THAT(Error({"p", "--image-build", "--cpu=haswell", "x.py"}),
              StartsWith("--cpu: no level: haswell"));
  EXPECT_TRUE(Parse("p --image-build --shared x.py").image_shared);
  EXPECT_FALSE(Parse("p --image-build x.py").image_shared);
  EXPECT_THAT(Error({"p", "--shared", "x.py"}),
              StartsWith("--shared goes with --image-build or --export"));
  EXPECT_THAT(Error({"p", "--image-build", "--shared", "--image-allow=A", "x.py"}),
              StartsWith("--shared is for images that hold no secret"));
}

TEST(Options, ExportAndImport) {
  EXPECT_EQ(Parse("p --export a.pla -O").export_to, "a.pla");
  EXPECT_EQ(Parse("p", {"PYLAUNCH_EXPORT=a.pla"}).export_to, "a.pla");
  EXPECT_EQ(Parse("p --export=a --cache-mode=readonly").export_to, "a");
  EXPECT_TRUE(Parse("p --export=a --shared").image_shared);
  EXPECT_THAT(Error({"p", "--import=a", "--shared"}), StartsWith("--shared goes with"));
  EXPECT_EQ(Parse("p --import a.pla --json").import_from, "a.pla");
  EXPECT_THAT(Error({"p", "--import=a", "--cache-mode=sealed"}),
              StartsWith("--import writes what --cache-mode sealed does not"));
  EXPECT_THAT(Error({"p", "--import=a", "--export=b"}), StartsWith("only one of"));
}

TEST(Options, CacheSize) {
  EXPECT_EQ(Parse("p").cache_size, std::nullopt);
  EXPECT_EQ(Parse("p --cache-size 0").cache_size, 0u);
  EXPECT_EQ(Parse("p --cache-size 123456").cache_size, 123456u);
  EXPECT_EQ(Parse("p --cache-size=500M").cache_size, 500u << 20);
  EXPECT_EQ(Parse("p --cache-size 2GiB").cache_size, 2ull << 30);
  EXPECT_EQ(Parse("p", {"PYLAUNCH_CACHE_SIZE=64K"}).cache_size, 64u << 10);
  for (const char* bad : {"much", "1Q", "--cache-size=-5", "1e3000G", "99999999999999G"}) {
    const std::string word =
        std::string(bad).starts_with("--") ? bad : "--cache-size=" + std::string(bad);
    EXPECT_THAT(Error({"p", word}), StartsWith("--cache-size: no size: ")) << bad;
  }
}

TEST(Options, RecordAndReportNameFiles) {
  const Options options = Parse("p --record r.txt --report=a.speedscope.json x.py --record y");
  EXPECT_EQ(options.record, "r.txt");
  EXPECT_EQ(options.report, "a.speedscope.json");
  const Words environment = {"PYLAUNCH_RECORD=from env", "PYLAUNCH_REPORT=e.html"};
  EXPECT_EQ(Parse("p x.py", environment).record, "from env");
  EXPECT_EQ(Parse("p --report=f.json x.py", environment).report, "f.json");
  EXPECT_EQ(Parse("p -E x.py", environment).record, "");
}

TEST(Options, AReportsKindIsToldByItsSuffix) {
  for (const char* file : {"a.html", "/b c/d.json", "e.speedscope.json", ".html", "x.txt.json"}) {
    EXPECT_EQ(Parse(Words{"p", "--report", file}).report, file);
  }
  for (const char* file : {"a", "a.txt", "html", "a.html ", "a.HTML", "a.speedscope"}) {
    EXPECT_THAT(Error({"p", "--report", file}), AllOf(StartsWith("--report: '"), HasSubstr(file),
                                                      HasSubstr("\n  hint:  FILE.html")));
  }
  EXPECT_THAT(Error({"p"}, {"PYLAUNCH_REPORT=a.csv"}), HasSubstr("a.csv"));
}

TEST(Options, ValuesArriveByteForByte) {
  for (const char* value : {"[a,b]", "{}", "%%", "a=b", "=", "\"q\"", "a b\tc", "'", "\xFF", "[[]]",
                            "from M import A, B", "0"}) {
    const Options attached = Parse(Words{"p", std::string("--preload=") + value});
    ASSERT_EQ(attached.preload.size(), 1u) << value;
    EXPECT_EQ(attached.preload[0].text, value);
    EXPECT_EQ(Parse(Words{"p", "--preload", value}).preload[0].text, value);
    EXPECT_EQ(Parse(Words{"p", "--cache", value}).cache, value);
    EXPECT_EQ(Parse(Words{"p"}, {std::string("PYLAUNCH_CACHE=") + value}).cache, value);
  }
}

TEST(Options, EveryCacheModeHasANameThatParses) {
  for (CacheMode mode :
       {CacheMode::kAuto, CacheMode::kReadonly, CacheMode::kRefresh, CacheMode::kOff}) {
    EXPECT_EQ(Parse(Words{"p", "--cache-mode", std::string(CacheModeName(mode))}).cache_mode, mode);
  }
  const std::string error = Error({"p", "--cache-mode=fast"});
  EXPECT_THAT(error, AllOf(StartsWith("--cache-mode"), HasSubstr("fast"), HasSubstr("readonly")));
  EXPECT_THAT(Error({"p", "--cache-mode=1"}), HasSubstr("--cache-mode"));
  EXPECT_THAT(Error({"p", "--cache-mode=[auto]"}), HasSubstr("--cache-mode"));
}

TEST(Options, PreloadAddsAndTheLastOfTheOthersWins) {
  const Options options =
      Parse(Words{"p", "--preload", "import a", "--python=x", "--preload=b.txt", "--python=y",
                  "--explain", "--explain"},
            {"PYLAUNCH_PRELOAD=@f\n\n  \r\nimport c", "PYLAUNCH_PYTHON=z", "PYLAUNCH_CACHE=kept"});
  ASSERT_EQ(options.preload.size(), 4u);
  EXPECT_EQ(options.preload[0].text, "@f");
  EXPECT_EQ(options.preload[0].source, "PYLAUNCH_PRELOAD");
  EXPECT_EQ(options.preload[1].text, "import c");
  EXPECT_EQ(options.preload[2].text, "import a");
  EXPECT_EQ(options.preload[2].source, "--preload");
  EXPECT_EQ(options.preload[3].text, "b.txt");
  EXPECT_EQ(options.python, "y");
  EXPECT_EQ(options.cache, "kept");
}

TEST(Options, TwinsSpeakWhereNoFlagDoes) {
  const Words environment = {"PATH=/x",
                             "PYLAUNCH_CACHE_MODE=readonly",
                             "PYLAUNCH_EXPLAIN=YES",
                             "PYLAUNCH_STATS=1",
                             "PYLAUNCH_STATS=0",
                             "PYLAUNCH_OTHER=?"};
  const Options options = Parse("p x.py", environment);
  EXPECT_EQ(options.cache_mode, CacheMode::kReadonly);
  EXPECT_TRUE(options.explain);
  EXPECT_TRUE(options.stats);  // As in getenv, the first counts.
  EXPECT_EQ(Parse("p --cache-mode=off", environment).cache_mode, CacheMode::kOff);
}

TEST(Options, ImageIsASwitchWithATwin) {
  EXPECT_FALSE(Parse("p x.py").image);
  EXPECT_TRUE(Parse("p --image x.py").image);
  EXPECT_FALSE(Parse("p x.py --image").image);
  EXPECT_TRUE(Parse("p x.py", {"PYLAUNCH_IMAGE=1"}).image);
  EXPECT_FALSE(Parse("p -E x.py", {"PYLAUNCH_IMAGE=1"}).image);
}

// What a preload file says counts where neither a flag nor a variable speaks.
TEST(Options, AFileSpeaksWhereNeitherFlagNorVariableDoes) {
  Directives file;
  file.image = {"f.txt", 3, 1};
  file.exit = {"f.txt", 4, 1};
  file.fast_exit = true;
  struct Case {
    const char* line;
    Words environment;
    bool image;
    const char* image_from;
    bool fast;
    const char* exit_from;
  };
  const Case cases[] = {
      {"p x.py", {}, true, "f.txt:3:1", true, "f.txt:4:1"},
      {"p --exit=full x.py", {}, true, "f.txt:3:1", false, "--exit"},
      {"p x.py", {"PYLAUNCH_EXIT=full"}, true, "f.txt:3:1", false, "PYLAUNCH_EXIT"},
      {"p --exit=fast x.py", {"PYLAUNCH_EXIT=full"}, true, "f.txt:3:1", true, "--exit"},
      {"p x.py", {"PYLAUNCH_IMAGE=0"}, false, "PYLAUNCH_IMAGE", true, "f.txt:4:1"},
      {"p x.py", {"PYLAUNCH_IMAGE="}, true, "f.txt:3:1", true, "f.txt:4:1"},
      {"p x.py", {"PYLAUNCH_IMAGE=1"}, true, "PYLAUNCH_IMAGE", true, "f.txt:4:1"},
      {"p --image x.py", {"PYLAUNCH_IMAGE=0"}, true, "--image", true, "f.txt:4:1"},
      {"p -I x.py",
       {"PYLAUNCH_IMAGE=0", "PYLAUNCH_EXIT=full"},
       true,
       "f.txt:3:1",
       true,
       "f.txt:4:1"},
  };
  for (const Case& wanted : cases) {
    Options options = Parse(wanted.line, wanted.environment);
    Obey(file, &options);
    EXPECT_EQ(options.image, wanted.image) << wanted.line;
    EXPECT_EQ(options.image_from, wanted.image_from) << wanted.line;
    EXPECT_EQ(options.fast_exit, wanted.fast) << wanted.line;
    EXPECT_EQ(options.exit_from, wanted.exit_from) << wanted.line;
  }
  Options silent = Parse("p x.py");
  Obey({}, &silent);
  EXPECT_TRUE(!silent.image && silent.image_from.empty() && !silent.fast_exit);
}

TEST(Options, SwitchTwinsAreTrueFalseOrAnErrorThatNamesTheVariable) {
  for (const char* yes : {"1", "true", "yes", "on", "True"}) {
    EXPECT_TRUE(Parse("p", {std::string("PYLAUNCH_STATS=") + yes}).stats) << yes;
  }
  for (const char* no : {"", "0", "false", "no", "off"}) {
    EXPECT_FALSE(Parse("p", {std::string("PYLAUNCH_STATS=") + no}).stats) << no;
  }
  EXPECT_THAT(Error({"p"}, {"PYLAUNCH_EXPLAIN=maybe"}),
              AllOf(StartsWith("PYLAUNCH_EXPLAIN: 'maybe'"), HasSubstr("\n  hint:  ")));
}

TEST(Options, WrongTwinIsReportedUnderTheVariablesName) {
  EXPECT_THAT(Error({"p"}, {"PYLAUNCH_CACHE_MODE=fast"}),
              AllOf(StartsWith("PYLAUNCH_CACHE_MODE: fast"), Not(HasSubstr("--cache-mode"))));
}

TEST(Options, IsolationIgnoresTheTwinsButNotTheFlags) {
  const Words environment = {"PYLAUNCH_CACHE_MODE=nonsense", "PYLAUNCH_EXPLAIN=1"};
  for (const char* line : {"p -I x.py", "p -E x.py", "p -BE x.py", "p --stats -Ic x", "p -Im x"}) {
    const Options options = Parse(line, environment);
    EXPECT_TRUE(options.ignore_environment) << line;
    EXPECT_FALSE(options.explain) << line;
  }
  EXPECT_TRUE(Parse("p -I --explain x.py", environment).explain);
  for (const char* line : {"p x.py -I", "p -c cmd -E", "p -WE x.py", "p -X I x.py", "p -cI"}) {
    EXPECT_FALSE(Parse(line).ignore_environment) << line;
  }
}

TEST(Options, UnknownLongOptionNamesTheNearestOursOrPythons) {
  EXPECT_THAT(Error({"p", "--prelod=x"}),
              AllOf(StartsWith("unknown option '--prelod'"), HasSubstr("did you mean '--preload'"),
                    HasSubstr("pylaunch --help")));
  EXPECT_THAT(Error({"p", "-B", "--help-al"}), HasSubstr("did you mean '--help-all'"));
  EXPECT_THAT(Error({"p", "--check-hashbased-pyc"}), HasSubstr("'--check-hash-based-pycs'"));
}

TEST(Options, UnknownLongOptionLikeNoneOfOursIsLeftToPython) {
  for (const std::string& word : {std::string("--check-hash-pycs"), std::string("--zzzzzzzzz"),
                                  "--" + std::string(100000, 'x'), std::string("--unknown=x")}) {
    EXPECT_THAT(Parse(Words{"p", "-B", word, "x.py"}).python_argv,
                ElementsAre("p", "-B", word, "x.py"));
  }
}

TEST(Options, MissingValueIsAnErrorAndSwallowsNoOption) {
  for (const Words& argv :
       {Words{"p", "--preload"}, Words{"p", "--preload="}, Words{"p", "--preload", ""},
        Words{"p", "--preload", "--explain"}, Words{"p", "--preload", "-m", "pytest"}}) {
    EXPECT_THAT(Error(argv), StartsWith("option '--preload' needs a value")) << argv.size();
  }
  EXPECT_THAT(Error({"p", "--stats=yes"}), StartsWith("option '--stats' takes no value"));
  EXPECT_EQ(Parse(Words{"p", "--python=-x"}).python, "-x");
}

TEST(Options, HelpAndVersionAreOursTheirShortFormsPythons) {
  EXPECT_TRUE(Parse("p --help").help);
  EXPECT_TRUE(Parse("p -B --version x").version);
  const Options options = Parse("p -h -V");
  EXPECT_FALSE(options.help || options.version);
  EXPECT_THAT(options.python_argv, ElementsAre("p", "-h", "-V"));
}

TEST(Exit, FlagWinsOverTwin) {
  EXPECT_EQ(Parse("p x.py").fast_exit, std::nullopt);
  EXPECT_EQ(Parse("p --exit fast x.py").fast_exit, true);
  EXPECT_EQ(Parse("p --exit=fast --exit=full x.py").fast_exit, false);
  EXPECT_THAT(Error({"p", "--exit=slow", "x.py"}), HasSubstr("--exit"));
}

TEST(Init, FlagWinsOverTwin) {
  EXPECT_EQ(Parse("p x.py").init, InitMode::kAsProcess1);
  EXPECT_EQ(Parse("p --init always x.py").init, InitMode::kAlways);
  EXPECT_EQ(Parse("p x.py", {"PYLAUNCH_INIT=never"}).init, InitMode::kNever);
  EXPECT_EQ(Parse("p --init=always x.py", {"PYLAUNCH_INIT=never"}).init, InitMode::kAlways);
  EXPECT_THAT(Error({"p", "--init", "x.py"}), HasSubstr("--init"));
}

TEST(Options, CompletionNamesAShellThatWeKnow) {
  EXPECT_EQ(Parse("p --completion fish").completion, "fish");
  EXPECT_EQ(Parse("p --completion=zsh -B").completion, "zsh");
  EXPECT_THAT(Error(Split("p --completion tcsh")), HasSubstr("tcsh"));
  EXPECT_THAT(Error(Split("p --completion")), HasSubstr("--completion"));
}

TEST(Options, EachHasWordsOfItsOwnForManualAndCompletion) {
  for (const OwnOption& option : OwnOptions()) {
    EXPECT_THAT(std::string(Meaning(option)), Not(IsEmpty())) << option.name;
  }
}

TEST(Help, FitsATerminalAndNamesEverything) {
  const std::string help = HelpText();
  std::istringstream lines(help);
  int count = 0;
  std::string last;
  for (std::string line; std::getline(lines, line); ++count, last = line) {
    EXPECT_LE(line.size(), 80u) << line;
  }
  EXPECT_THAT(help, StartsWith("usage: pylaunch"));
  EXPECT_LE(count, 24);
  EXPECT_THAT(last, HasSubstr("pylaunch -h"));
  EXPECT_THAT(help, HasSubstr("*.html, *.json, *.speedscope.json"));
  for (const char* word : {"--preload",
                           "--python",
                           "--cache",
                           "--cache-mode",
                           "--cache-size",
                           "--record",
                           "--report",
                           "--exit",
                           "--explain",
                           "--build",
                           "--image-build",
                           "--image-allow",
                           "--export",
                           "--import",
                           "--stats",
                           "--verify",
                           "--prune",
                           "--doctor",
                           "--json",
                           "--help",
                           "--version",
                           "--completion",
                           "PYLAUNCH_CACHE_MODE",
                           "auto (default)"}) {
    EXPECT_THAT(help, HasSubstr(word));
  }
}

}  // namespace
}  // namespace pylaunch
