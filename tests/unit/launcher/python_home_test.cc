#include "launcher/python_home/python_home.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>

namespace pylaunch {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string OutputOf(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (const size_t got = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, got);
  pclose(pipe);
  if (output.ends_with('\n')) output.pop_back();
  return output;
}

// The real executable of the machine's Python, whatever shims stand before it.
const std::string& RealPython() {
  static const std::string python =
      OutputOf("python3 -c 'import os, sys; print(os.path.realpath(sys.executable))' 2>/dev/null");
  return python;
}

void WriteFile(const std::string& path, const std::string& text) {
  fs::create_directories(fs::absolute(path).parent_path());
  std::ofstream(path) << text;
}

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void WriteScript(const std::string& path, const std::string& body) {
  WriteFile(path, "#!/bin/sh\n" + body + "\n");
  chmod(path.c_str(), 0755);
}

// A folder of its own, which is the working directory, and an environment of its own.
class PythonHomeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(RealPython().starts_with('/')) << "these tests need a python3 on PATH";
    char folder[] = "/tmp/pylaunch-home-XXXXXX";
    folder_ = fs::canonical(mkdtemp(folder));
    before_ = fs::current_path();
    Enter("here");
    fs::create_directories(folder_ + "/bin");
    query_.self = folder_ + "/pylaunch-home/bin/pylaunch";
    query_.cache_folder = folder_ + "/cache";
    query_.getenv = [this](const char* name) {
      const auto found = environment_.find(name);
      return found == environment_.end() ? std::string() : found->second;
    };
    environment_["PATH"] = folder_ + "/bin";
    environment_["HOME"] = folder_ + "/home";
  }
  void TearDown() override {
    fs::current_path(before_);
    fs::remove_all(folder_);
  }

  void Enter(const std::string& name) {
    fs::create_directories(folder_ + "/" + name);
    fs::current_path(folder_ + "/" + name);
  }

  PythonHome Find() {
    absl::StatusOr<PythonHome> home = FindPython(query_);
    EXPECT_TRUE(home.ok()) << home.status();
    return home.ok() ? *home : PythonHome();
  }
  PythonHome Find(const std::string& requested) {
    query_.requested = requested;
    return Find();
  }
  // The message; empty if there was no error.
  std::string Error(absl::StatusCode code) {
    const absl::Status status = FindPython(query_).status();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  }

  // A prefix whose bin/python is a link to the real one.
  std::string MakePrefix(const std::string& name, const std::string& python = "python") {
    fs::create_directories(folder_ + "/" + name + "/bin");
    fs::create_symlink(RealPython(), folder_ + "/" + name + "/bin/" + python);
    return folder_ + "/" + name;
  }

  // A script before the real Python that leaves a mark at each call, and how often it was called.
  std::string MakeShim(const std::string& path = "bin/python3", const std::string& more = "") {
    WriteScript(folder_ + "/" + path, "echo call >> '" + folder_ + "/calls'\n" + more + "\nexec '" +
                                          RealPython() + "' \"$@\"");
    return folder_ + "/" + path;
  }
  int Calls() {
    const std::string calls = ReadFile(folder_ + "/calls");
    return static_cast<int>(std::count(calls.begin(), calls.end(), '\n'));
  }

  std::string RecordPath() {
    const fs::path folder = folder_ + "/cache/pythons";
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);
    return fs::directory_iterator(folder)->path();
  }

  std::string folder_;
  fs::path before_;
  std::map<std::string, std::string> environment_;
  HomeQuery query_;
};

TEST_F(PythonHomeTest, VenvsPythonStaysTheVenvsAndTellsItsVersion) {
  const std::string venv = folder_ + "/my venv";
  ASSERT_EQ(std::system(("'" + RealPython() + "' -m venv --without-pip '" + venv + "'").c_str()),
            0);
  environment_["VIRTUAL_ENV"] = venv;
  query_.exact_version = true;
  for (int run = 0; run < 2; ++run) {  // Asked, then remembered.
    const PythonHome home = Find();
    EXPECT_EQ(home.candidate, venv + "/bin/python");
    EXPECT_EQ(home.executable, venv + "/bin/python");
    EXPECT_EQ(home.why, "VIRTUAL_ENV");
    EXPECT_EQ(home.implementation,
              OutputOf(RealPython() + " -c 'import sys; print(sys.implementation.name)'"));
    EXPECT_EQ(
        home.version,
        OutputOf(RealPython() + " -c 'import sys; print(\"%d.%d.%d\" % sys.version_info[:3])'"));
    EXPECT_EQ(
        home.version.find(std::to_string(home.major) + "." + std::to_string(home.minor) + "."), 0u);
    EXPECT_EQ(OutputOf("'" + home.executable + "' -c 'import sys; print(sys.prefix)'"), venv);
  }
}

TEST_F(PythonHomeTest, SearchGoesInTheDocumentedOrder) {
  const std::string path = MakePrefix("on-path", "python3") + "/bin/python3";
  environment_["PATH"] = folder_ + "/none:" + folder_ + "/on-path/bin";
  EXPECT_EQ(Find().candidate, path);
  EXPECT_EQ(Find().why, "PATH");
  environment_["CONDA_PREFIX"] = MakePrefix("conda");
  EXPECT_EQ(Find().candidate, folder_ + "/conda/bin/python");
  EXPECT_EQ(Find().why, "CONDA_PREFIX");
  environment_["VIRTUAL_ENV"] = MakePrefix("venv", "python3");  // No bin/python: bin/python3 does.
  EXPECT_EQ(Find().candidate, folder_ + "/venv/bin/python3");
  WriteFile(MakePrefix("pylaunch-home") + "/pyvenv.cfg", "");
  EXPECT_EQ(Find().candidate, folder_ + "/pylaunch-home/bin/python");
  EXPECT_EQ(Find().why, "pyvenv.cfg above pylaunch");
  WriteFile(MakePrefix("pylaunch-home/bin") + "/pyvenv.cfg", "");
  EXPECT_EQ(Find().candidate, folder_ + "/pylaunch-home/bin/bin/python");
  EXPECT_EQ(Find().why, "pyvenv.cfg beside pylaunch");
  query_.requested = path;
  EXPECT_EQ(Find().candidate, path);
}

TEST_F(PythonHomeTest, PythonComesAfterPython3OnTheWholePath) {
  const std::string one = MakePrefix("one"), two = MakePrefix("two", "python3");
  environment_["PATH"] = one + "/bin:" + two + "/bin";
  EXPECT_EQ(Find().candidate, two + "/bin/python3");
  environment_["PATH"] = one + "/bin";
  EXPECT_EQ(Find().candidate, one + "/bin/python");
}

TEST_F(PythonHomeTest, RequestedIsAPathANameOrAFolder) {
  const std::string prefix = MakePrefix("env");
  MakePrefix("here/.venv");
  MakePrefix("other", "python3.99");
  environment_["PATH"] = folder_ + "/other/bin";
  EXPECT_EQ(Find(prefix).executable, prefix + "/bin/python");
  EXPECT_EQ(Find(prefix + "/bin/python").executable, prefix + "/bin/python");
  EXPECT_EQ(Find("../env/bin/python").executable, folder_ + "/here/../env/bin/python");
  EXPECT_EQ(Find("./.venv").executable, folder_ + "/here/./.venv/bin/python");
  EXPECT_EQ(Find(".venv").executable, folder_ + "/here/.venv/bin/python");
  EXPECT_EQ(Find("python3.99").executable, folder_ + "/other/bin/python3.99");
}

TEST_F(PythonHomeTest, RequestedThatIsNoPythonIsRefusedWithItsCause) {
  WriteScript(folder_ + "/false", "exit 3");
  WriteScript(folder_ + "/killed", "kill -9 $$");
  WriteFile(folder_ + "/text", "x");
  WriteFile(folder_ + "/no-interpreter", "#!/no/such/thing\n");
  chmod((folder_ + "/no-interpreter").c_str(), 0755);
  WriteFile(query_.self, "");
  chmod(query_.self.c_str(), 0755);
  const std::pair<const char*, const char*> cases[] = {
      {"../false", "exit code 3"},        {"../killed", "killed by signal 9"},
      {"../text", "not an executable"},   {"../no-interpreter", "cannot be run: No such file"},
      {"../nothing", "no such file"},     {"..", "no such file"},
      {"python9.9", "no 'python9.9' on"}, {"../pylaunch-home/bin/pylaunch", "pylaunch itself"}};
  MakePrefix("bin", "python3");  // A good one on PATH is no excuse.
  for (const auto& [requested, cause] : cases) {
    query_.requested = requested;
    EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument),
                AllOf(HasSubstr(requested), HasSubstr(cause), HasSubstr("\n  hint:  ")));
  }
}

TEST_F(PythonHomeTest, WhatIsNoPythonIsPassedOverAndExplained) {
  environment_["VIRTUAL_ENV"] = folder_ + "/gone";
  WriteScript(folder_ + "/bin/python3", "exit 127");
  fs::create_directories(folder_ + "/second/python3");  // A folder of that name.
  environment_["PATH"] += ":" + folder_ + "/second:" + MakePrefix("third", "python3") + "/bin";
  const PythonHome home = Find();
  EXPECT_EQ(home.executable, folder_ + "/third/bin/python3");
  EXPECT_THAT(home.why,
              AllOf(StartsWith("PATH; before it: VIRTUAL_ENV: "), HasSubstr("exit code 127")));
}

TEST_F(PythonHomeTest, NothingFoundNamesWhatWasTried) {
  environment_["CONDA_PREFIX"] = folder_ + "/conda";
  EXPECT_THAT(Error(absl::StatusCode::kNotFound),
              AllOf(StartsWith("no Python found\n"), HasSubstr(folder_ + "/conda/bin/python"),
                    HasSubstr("no 'python3' on PATH"), HasSubstr("no 'python' on PATH"),
                    HasSubstr("\n  hint:  ")));
}

TEST_F(PythonHomeTest, PylaunchNeverFindsItself) {
  WriteFile(query_.self, "");
  chmod(query_.self.c_str(), 0755);
  fs::create_symlink(query_.self, folder_ + "/bin/python3");
  fs::create_hard_link(query_.self, folder_ + "/bin/python");
  fs::create_directories(folder_ + "/venv/bin");
  fs::create_symlink(query_.self, folder_ + "/venv/bin/python");
  WriteFile(folder_ + "/pylaunch-home/pyvenv.cfg", "");
  fs::create_symlink("pylaunch", folder_ + "/pylaunch-home/bin/python");
  environment_["VIRTUAL_ENV"] = folder_ + "/venv";
  EXPECT_THAT(Error(absl::StatusCode::kNotFound), HasSubstr("pylaunch itself"));
  environment_["PATH"] += ":" + MakePrefix("real", "python3") + "/bin";
  EXPECT_EQ(Find().executable, folder_ + "/real/bin/python3");
}

TEST_F(PythonHomeTest, EmptyPathElementIsTheWorkingDirectoryAndNoPathTheSystems) {
  fs::create_symlink(RealPython(), folder_ + "/here/python3");
  environment_["PATH"] = ":" + folder_ + "/none";
  EXPECT_EQ(Find().executable, folder_ + "/here/python3");
  environment_.erase("PATH");
  const absl::StatusOr<PythonHome> home = FindPython(query_);  // There need not be one.
  EXPECT_TRUE(!home.ok() || home->executable.starts_with('/'));
}

TEST_F(PythonHomeTest, WorkingDirectoryThatIsGoneIsNoObstacle) {
  const std::string shim = MakeShim();
  fs::remove(folder_ + "/here");
  EXPECT_EQ(Find().candidate, shim);
  query_.requested = "./python";
  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument), HasSubstr("./python"));
}

// ---- Shims ----

TEST_F(PythonHomeTest, ShimIsAskedOnceNotAtEveryStart) {
  const std::string shim = MakeShim();
  for (int start = 0; start < 5; ++start) {
    const PythonHome home = Find();
    EXPECT_EQ(home.candidate, shim);
    EXPECT_EQ(home.executable, RealPython());
  }
  EXPECT_EQ(Calls(), 1);
  EXPECT_EQ(Find(shim).executable, RealPython());  // However it was found.
  EXPECT_EQ(Calls(), 1);
}

TEST_F(PythonHomeTest, ExecutableNamedByItsVersionIsNotAsked) {
  MakePrefix("env");
  environment_["VIRTUAL_ENV"] = folder_ + "/env";
  const PythonHome asked = [&] {
    query_.exact_version = true;
    return Find();
  }();
  fs::remove(RecordPath());
  query_.exact_version = false;
  const PythonHome told = Find();
  EXPECT_TRUE(fs::is_empty(folder_ + "/cache/pythons"));
  EXPECT_EQ(told.executable, asked.executable);
  EXPECT_EQ(told.implementation, asked.implementation);
  EXPECT_EQ(told.major, asked.major);
  EXPECT_EQ(told.minor, asked.minor);
}

TEST_F(PythonHomeTest, ElfExecutableIsAskedOnceToo) {
  MakePrefix("env");
  query_.exact_version = true;
  environment_["VIRTUAL_ENV"] = folder_ + "/env";
  Find();
  const auto written = fs::last_write_time(RecordPath());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Find();
  Enter("elsewhere");  // Where one stands says nothing about a real executable.
  environment_["PATH"] = "/else";
  Find();
  EXPECT_EQ(fs::last_write_time(RecordPath()), written);
}

TEST_F(PythonHomeTest, ShimIsAskedAgainWhenWhatItReadsChanges) {
  MakeShim("root/shims/python3");
  environment_["PATH"] = folder_ + "/root/shims";
  const auto asked = [&](const char* after) {
    const int before = Calls();
    Find();
    EXPECT_EQ(Calls(), before + 1) << "not asked after: " << after;
    Find();
    EXPECT_EQ(Calls(), before + 1) << "asked twice after: " << after;
  };
  asked("the start");
  WriteFile(".python-version", "3.11.7");
  asked("a .python-version appeared");
  WriteFile(".python-version", "3.12.1");  // Same size, perhaps the same tick of the clock.
  asked(".python-version changed");
  WriteFile("../.python-version", "3.10.1");
  asked("a .python-version appeared above");
  fs::remove(".python-version");
  asked(".python-version went");
  WriteFile("../.tool-versions", "python 3.9.9");
  asked("asdf's .tool-versions appeared");
  environment_["PYENV_VERSION"] = "3.13.0";
  asked("PYENV_VERSION was set");
  environment_["PYENV_ROOT"] = folder_ + "/pyenv";
  asked("PYENV_ROOT was set");
  WriteFile(folder_ + "/pyenv/version", "3.13.0");
  asked("pyenv's global version was set");
  WriteFile(folder_ + "/root/version", "3.13.0");
  asked("the global version of the shim's own root was set");
  fs::create_directories(folder_ + "/root/versions/3.13.1");
  asked("a version was installed");
  environment_["PATH"] += ":" + folder_ + "/more";
  asked("PATH changed");
  Enter("here/below");
  asked("the working directory changed");
  MakeShim("root/shims/python3", "# another");
  asked("the shim changed");
}

TEST_F(PythonHomeTest, GoingBackAndForthBetweenProjectsAsksEachOnce) {
  MakeShim();
  for (int round = 0; round < 3; ++round) {
    for (const char* project : {"a", "b", "c"}) {
      Enter(project);
      Find();
    }
  }
  EXPECT_EQ(Calls(), 3);
}

TEST_F(PythonHomeTest, ManyProjectsDoNotGrowTheRecordWithoutBound) {
  MakeShim();
  for (int project = 0; project < 20; ++project) {
    Enter("project" + std::to_string(project));
    Find();
  }
  EXPECT_EQ(Calls(), 20);
  const std::string record = ReadFile(RecordPath());
  EXPECT_LT(record.size(), 10000u);
  Find();  // The newest is among those kept.
  EXPECT_EQ(Calls(), 20);
}

TEST_F(PythonHomeTest, WorkingDirectoryIsTheShellsNotWhereItsLinksLead) {
  MakeShim();
  fs::create_directory_symlink(folder_ + "/here", folder_ + "/home-link");
  fs::create_directories(folder_ + "/logical");
  fs::create_directory_symlink(folder_ + "/here", folder_ + "/logical/link");
  environment_["PWD"] = folder_ + "/logical/link";
  Find();
  WriteFile(folder_ + "/logical/.python-version", "3");
  Find();
  EXPECT_EQ(Calls(), 2);
  environment_["PWD"] = folder_ + "/logical";  // A lie: not where we are.
  Find();
  EXPECT_EQ(Calls(), 3);
}

TEST_F(PythonHomeTest, ExecutableThatGoesOrChangesIsAskedForAgain) {
  fs::copy_file(RealPython(), folder_ + "/copy");
  WriteScript(folder_ + "/bin/python3", "echo call >> '" + folder_ + "/calls'\nfor p in '" +
                                            folder_ + "/copy' '" + RealPython() +
                                            "'; do [ -x \"$p\" ] && exec \"$p\" \"$@\"; done");
  environment_["LD_LIBRARY_PATH"] = "";
  EXPECT_EQ(Find().executable, folder_ + "/copy");
  fs::last_write_time(folder_ + "/copy", fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(Find().executable, folder_ + "/copy");
  EXPECT_EQ(Calls(), 2);
  fs::remove(folder_ + "/copy");
  EXPECT_EQ(Find().executable, RealPython());
  EXPECT_EQ(Calls(), 3);
}

TEST_F(PythonHomeTest, ShimMayPrintLieAboutItsNameAndStayAsTheParent) {
  MakeShim("noisy/python3", "echo 'activating...'");
  WriteScript(folder_ + "/parent/python3", "'" + RealPython() + "' \"$@\"\nexit $?");
  WriteFile(folder_ + "/liar/python3",
            "#!/usr/bin/env bash\nexec -a \"$0\" '" + RealPython() + "' \"$@\"\n");
  chmod((folder_ + "/liar/python3").c_str(), 0755);
  for (const char* kind : {"noisy", "parent", "liar"}) {
    environment_["PATH"] = folder_ + "/" + kind;
    EXPECT_EQ(Find().executable, RealPython()) << kind;
  }
}

TEST_F(PythonHomeTest, PathsOfAnyBytesWork) {
  for (const char* name : {"a \"b\" 'c'", "\xFF\xFE", "n\newline", "\\n", "ü"}) {
    const std::string prefix = MakePrefix(name);
    environment_["VIRTUAL_ENV"] = prefix;
    for (int run = 0; run < 2; ++run) EXPECT_EQ(Find().executable, prefix + "/bin/python");
  }
}

TEST_F(PythonHomeTest, ShimIsRunWithoutOurPreloadAndTerminal) {
  MakeShim("bin/python3", "env > '" + folder_ + "/env'; cat > '" + folder_ + "/stdin'; echo x >&2");
  setenv("LD_PRELOAD", "", 1);
  Find();
  unsetenv("LD_PRELOAD");
  EXPECT_THAT(ReadFile(folder_ + "/env"), HasSubstr("PYLAUNCH_PROBING=1\n"));
  EXPECT_EQ(ReadFile(folder_ + "/env").find("LD_PRELOAD"), std::string::npos);
  EXPECT_TRUE(fs::exists(folder_ + "/stdin"));  // So cat came back: end of file at once.
}

TEST_F(PythonHomeTest, ScriptThatStartsPylaunchEndsInAnErrorNotInALoop) {
  environment_["PYLAUNCH_PROBING"] = "1";
  MakePrefix("bin", "python3");
  EXPECT_THAT(Error(absl::StatusCode::kFailedPrecondition), HasSubstr("\n  hint:  "));
}

TEST_F(PythonHomeTest, HangingShimIsKilledWithAllItStarted) {
  WriteScript(folder_ + "/bin/python3", "sleep 1000 & echo $! > '" + folder_ + "/pid'; wait");
  query_.probe_timeout = std::chrono::milliseconds(300);
  EXPECT_THAT(Error(absl::StatusCode::kNotFound), HasSubstr("it took too long"));
  const pid_t sleeper = std::stoi(ReadFile(folder_ + "/pid"));
  for (int i = 0; i < 500 && kill(sleeper, 0) == 0; ++i) {  // Its new parent must collect it first.
    const std::string state = ReadFile("/proc/" + std::to_string(sleeper) + "/stat");
    if (state.find(") Z") != std::string::npos) break;
    ASSERT_LT(i, 499) << "still alive";
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

TEST_F(PythonHomeTest, DaemonThatKeepsThePipeDoesNotHoldTheStartUp) {
  MakeShim("bin/python3", "sleep 30 & echo $! > '" + folder_ + "/pid'");
  const auto begin = std::chrono::steady_clock::now();
  Find();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  kill(std::stoi(ReadFile(folder_ + "/pid")), SIGKILL);
}

TEST_F(PythonHomeTest, EndlessOutputIsCutOff) {
  WriteScript(folder_ + "/bin/python3", "exec yes");
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(Error(absl::StatusCode::kNotFound), HasSubstr("killed by signal 13"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST_F(PythonHomeTest, IgnoredSigchldAndClosedStandardStreamsAreNoObstacle) {
  MakeShim();
  signal(SIGCHLD, SIG_IGN);
  Find();
  signal(SIGCHLD, SIG_DFL);
  query_.cache_folder.clear();
  const int in = dup(0), out = dup(1), error = dup(2);
  close(0), close(1), close(2);
  const absl::StatusOr<PythonHome> home = FindPython(query_);
  dup2(in, 0), dup2(out, 1), dup2(error, 2);
  close(in), close(out), close(error);
  EXPECT_TRUE(home.ok()) << home.status();
}

TEST_F(PythonHomeTest, ModulesInTheWorkingDirectoryAreNotRun) {
  for (const char* name : {"json", "os", "posix", "sysconfig", "site", "encodings", "codecs"}) {
    WriteFile(std::string(name) + ".py", "open('ran-" + std::string(name) + "', 'w')\n");
  }
  setenv("PYTHONPATH", ".", 1);
  EXPECT_EQ(Find(RealPython()).executable, RealPython());
  unsetenv("PYTHONPATH");
  for (const fs::directory_entry& file : fs::directory_iterator(".")) {
    EXPECT_EQ(file.path().extension(), ".py") << file.path();
  }
}

TEST_F(PythonHomeTest, Python2SaysWhatItIs) {
  const std::string python =
      OutputOf("python2.7 -c 'import sys; print(sys.executable)' 2>/dev/null");
  if (python.empty()) GTEST_SKIP() << "no python2.7 here";
  EXPECT_EQ(Find(python).major, 2);
  EXPECT_EQ(Find(python).implementation, "cpython");
}

// ---- Records ----

TEST_F(PythonHomeTest, RecordIsOursAloneAndLeavesNoTemporaryFile) {
  MakeShim();
  const mode_t before = umask(0);
  Find();
  umask(before);
  struct stat state;
  ASSERT_EQ(stat(RecordPath().c_str(), &state), 0);  // RecordPath: the only file.
  EXPECT_EQ(state.st_mode & 07777, 0600u);
  EXPECT_THAT(RecordPath(), ::testing::EndsWith(".json"));
}

TEST_F(PythonHomeTest, RecordThatOthersCouldHaveWrittenIsIgnored) {
  MakeShim();
  for (mode_t mode : {0620, 0602, 0666}) {
    Find();
    const int before = Calls();
    chmod(RecordPath().c_str(), mode);
    Find();
    EXPECT_EQ(Calls(), before + 1) << std::oct << mode;
  }
  const std::string record = RecordPath();
  fs::rename(record, folder_ + "/elsewhere");
  fs::create_symlink(folder_ + "/elsewhere", record);
  const int before = Calls();
  Find();
  EXPECT_EQ(Calls(), before + 1);
  if (geteuid() != 0) return;
  ASSERT_EQ(chown(RecordPath().c_str(), 12345, 12345), 0);
  Find();
  EXPECT_EQ(Calls(), before + 2);
}

TEST_F(PythonHomeTest, CorruptRecordIsIgnoredSilentlyAndReplaced) {
  MakeShim();
  Find();
  const std::string record = RecordPath(), good = ReadFile(record);
  std::vector<std::string> bad = {"",
                                  "{",
                                  "[]",
                                  "null",
                                  "{\"format\":1}",
                                  "\xFF\xFE",
                                  std::string(50000, '['),
                                  std::string(1 << 20, ' '),
                                  "{\"format\":2" + good.substr(good.find(',')),
                                  good + "x"};
  for (size_t size = 1; size < good.size(); size += 37) bad.push_back(good.substr(0, size));
  for (const std::string& text : bad) {
    WriteFile(record, text);
    const int before = Calls();
    EXPECT_EQ(Find().executable, RealPython());
    EXPECT_EQ(Calls(), before + 1) << text.substr(0, 100);
    EXPECT_EQ(ReadFile(record), good);
  }
}

TEST_F(PythonHomeTest, NoByteChangedInARecordCrashes) {
  MakeShim();
  Find();
  const std::string record = RecordPath(), good = ReadFile(record);
  for (size_t i = 0; i < good.size(); i += 3) {
    for (const char byte : {'\0', '"', '9', '-', '}', '\xFF'}) {
      std::string changed = good;
      changed[i] = byte;
      WriteFile(record, changed);
      chmod(record.c_str(), 0600);
      query_.probe_timeout = std::chrono::milliseconds(0);  // Kill at once what is asked.
      const absl::StatusOr<PythonHome> home = FindPython(query_);
      EXPECT_TRUE(!home.ok() || home->executable.starts_with('/'));
    }
  }
}

TEST_F(PythonHomeTest, CacheFolderThatCannotBeWrittenIsNoError) {
  MakeShim();
  WriteFile(folder_ + "/file", "");
  for (const std::string& cache : {folder_ + "/file", folder_ + "/file/below",
                                   std::string("/proc/self/nothing"), std::string()}) {
    query_.cache_folder = cache;
    const int before = Calls();
    EXPECT_EQ(Find().executable, RealPython());
    EXPECT_EQ(Find().executable, RealPython());
    EXPECT_EQ(Calls(), before + 2) << cache;
  }
}

TEST_F(PythonHomeTest, CacheFolderFollowsTheFlagThenXdgThenHome) {
  EXPECT_EQ(CacheFolder("/flag", query_.getenv), "/flag");
  EXPECT_EQ(CacheFolder("flag", query_.getenv), folder_ + "/here/flag");
  EXPECT_EQ(CacheFolder("", query_.getenv), folder_ + "/home/.cache/pylaunch");
  environment_["XDG_CACHE_HOME"] = "relative";
  EXPECT_EQ(CacheFolder("", query_.getenv), folder_ + "/home/.cache/pylaunch");
  environment_["XDG_CACHE_HOME"] = "/xdg";
  EXPECT_EQ(CacheFolder("", query_.getenv), "/xdg/pylaunch");
  environment_.clear();
  EXPECT_EQ(CacheFolder("", query_.getenv), "");
  environment_["HOME"] = "/";
  EXPECT_EQ(CacheFolder("", query_.getenv), "/.cache/pylaunch");
  EXPECT_EQ(CacheFolder("/flag//", query_.getenv), "/flag");
  EXPECT_EQ(CacheFolder("/", query_.getenv), "/");
}

}  // namespace
}  // namespace pylaunch
