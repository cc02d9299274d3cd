#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "launcher/command_line/worker_options.h"
#include "launcher/workers/gpus.h"
#include "launcher/workers/processors.h"
#include "launcher/workers/relay.h"
#include "launcher/workers/worker.h"

namespace pylaunch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What comes out of a relay whose sink is a file.
class Reader {
 public:
  Reader() : fd_(memfd_create("out", 0)), relay(fd_) {}
  ~Reader() { close(fd_); }
  std::string Text() {
    relay.sink().Write();
    std::string text(1 << 20, '\0');
    const ssize_t n = pread(fd_, text.data(), text.size(), 0);
    text.resize(static_cast<size_t>(n));
    return text;
  }

 private:
  int fd_;

 public:
  Relay relay;
};

TEST(Relay, LinesAreWholeAndInTheirOrder) {
  Reader reader;
  Relay::Stream a(&reader.relay, "[a] "), b(&reader.relay, "[b] ");
  a.Take("one\ntw");
  b.Take("1\n2");
  a.Take("o\n\nthree");
  b.End();
  a.End();
  EXPECT_EQ(reader.Text(), "[a] one\n[b] 1\n[a] two\n[a] \n[b] 2\n[a] three\n");
  EXPECT_TRUE(a.idle() && b.idle());
}

TEST(Relay, CarriageReturnsEndPiecesButNotBeforeANewline) {
  Reader reader;
  Relay::Stream bar(&reader.relay, "> ");
  bar.Take("1%\r2%\r");
  EXPECT_EQ(reader.Text(), "> 1%\r") << "what follows the last one is not known yet";
  bar.Take("\nend\r\n");
  EXPECT_EQ(reader.Text(), "> 1%\r> 2%\r\n> end\r\n");
}

TEST(Relay, ALongLineHasTheSinkForItself) {
  Reader reader;
  Relay::Stream a(&reader.relay, "a"), b(&reader.relay, "b");
  const std::string part(Relay::kHeld, 'x');
  a.Take(part);
  b.Take("short\n");
  EXPECT_EQ(reader.Text(), "a" + part);
  EXPECT_TRUE(reader.relay.is_held_up());
  a.Take("y\n");
  EXPECT_EQ(reader.Text(), "a" + part + "y\nbshort\n");
  EXPECT_FALSE(reader.relay.is_held_up());
}

TEST(Relay, ALongLineThatStopsIsInterrupted) {
  Reader reader;
  Relay::Stream a(&reader.relay, "a"), b(&reader.relay, "b");
  const std::string part(Relay::kHeld, 'x');
  a.Take(part);
  b.Take("short\n");
  reader.relay.Interrupt();
  a.Take("y\n");
  EXPECT_EQ(reader.Text(), "a" + part + "\nbshort\nay\n");
}

TEST(Sink, KeepsWhatAPipeDoesNotTakeAtOnce) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Sink sink(ends[1]);
  const std::string much(Sink::kFull, 'z');
  sink.Append(much);
  sink.Write();
  EXPECT_FALSE(sink.empty()) << "a pipe holds 64 KiB";
  std::string got(much.size(), '\0');
  for (size_t at = 0; at < got.size(); sink.Write()) {
    const ssize_t n = read(ends[0], got.data() + at, got.size() - at);
    ASSERT_GT(n, 0);
    at += static_cast<size_t>(n);
  }
  EXPECT_EQ(got, much);
  EXPECT_TRUE(sink.empty());
  close(ends[0]);
  close(ends[1]);
}

Worker Ended(int code, double seconds, int attempt) {
  Worker worker;
  worker.ending = {code, 0};
  worker.seconds = seconds;
  worker.attempt = attempt;
  return worker;
}

constexpr int64_t kSecond = 1'000'000'000;

TEST(Worker, PausesDoubleUpToAMinuteAndBeginAnewAfterAGoodRun) {
  const RestartPolicy policy{RestartPolicy::When::kOnFailure, {}};
  Worker worker = Ended(1, 0.1, 0);
  for (const int64_t pause : {1, 2, 4, 8, 16, 32, 60, 60}) {
    worker.Next(policy, false, 0);
    EXPECT_EQ(worker.due_ns, pause * kSecond);
  }
  worker.seconds = 10;
  worker.Next(policy, false, 0);
  EXPECT_EQ(worker.due_ns, kSecond);
  EXPECT_EQ(worker.attempt, 9);
}

TEST(Worker, StartsAgainOnlyAsThePolicySays) {
  using When = RestartPolicy::When;
  const auto state = [](When when, std::optional<int> most, int code, int attempt, bool stopping) {
    Worker worker = Ended(code, 1, attempt);
    worker.Next({when, most}, stopping, 0);
    return worker.state;
  };
  EXPECT_EQ(state(When::kNever, {}, 1, 0, false), Worker::State::kDone);
  EXPECT_EQ(state(When::kOnFailure, {}, 0, 0, false), Worker::State::kDone);
  EXPECT_EQ(state(When::kOnFailure, {}, 1, 0, false), Worker::State::kWaiting);
  EXPECT_EQ(state(When::kOnFailure, 2, 1, 1, false), Worker::State::kWaiting);
  EXPECT_EQ(state(When::kOnFailure, 2, 1, 2, false), Worker::State::kDone);
  EXPECT_EQ(state(When::kAlways, {}, 0, 5, false), Worker::State::kWaiting);
  EXPECT_EQ(state(When::kAlways, {}, 0, 5, true), Worker::State::kDone);
}

TEST(Ending, IsToldAsShellsDo) {
  EXPECT_EQ((Ending{3, 0}).exit_code(), 3);
  EXPECT_EQ((Ending{0, 9}).exit_code(), 137);
  EXPECT_EQ((Ending{0, 9}).InWords(), "killed by signal 9 (SIGKILL)");
  EXPECT_EQ((Ending{3, 0}).InWords(), "exit code 3");
}

TEST(Gpus, AreThoseOfTheVariableUpToTheFirstBadOne) {
  EXPECT_THAT(VisibleGpus("0, 2,GPU-ab"), ElementsAre("0", "2", "GPU-ab"));
  EXPECT_THAT(VisibleGpus("1,-1,2"), ElementsAre("1"));
  EXPECT_THAT(VisibleGpus(""), IsEmpty());
  const std::string folder = ::testing::TempDir() + "/gpus";
  std::filesystem::create_directories(folder + "/0000:01:00.0");
  std::filesystem::create_directories(folder + "/0000:02:00.0");
  EXPECT_THAT(VisibleGpus(nullptr, folder), ElementsAre("0", "1"));
  EXPECT_THAT(VisibleGpus(nullptr, folder + "/none"), IsEmpty());
}

void WriteFile(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

TEST(Processors, AreNoMoreThanControlGroupsGrant) {
  const std::string root = ::testing::TempDir() + "/groups";
  std::filesystem::remove_all(root);
  const int all = UsableProcessors(root);
  WriteFile(root + "/proc/self/cgroup", "0::/job/step\n");
  WriteFile(root + "/sys/fs/cgroup/job/step/cpu.max", "max 100000\n");
  EXPECT_EQ(UsableProcessors(root), all);
  WriteFile(root + "/sys/fs/cgroup/job/cpu.max", "50000 100000\n");
  EXPECT_EQ(UsableProcessors(root), 1) << "a part of one, granted to the group above";
  WriteFile(root + "/proc/self/cgroup", "4:cpu,cpuacct:/job\n1:name=systemd:/\n");
  WriteFile(root + "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "80000\n");
  WriteFile(root + "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(UsableProcessors(root), 1);
}

TEST(WorkerOptions, RefuseWhatIsNoValue) {
  const auto complaint = [](std::string WorkerWords::*word, const char* value) {
    WorkerWords words;
    words.*word = value;
    WorkerOptions options;
    return std::string(ParseWorkerWords(words, &options).message());
  };
  EXPECT_EQ(complaint(&WorkerWords::workers, "8"), "");
  EXPECT_EQ(complaint(&WorkerWords::restart, "on-failure:3"), "");
  EXPECT_EQ(complaint(&WorkerWords::grace, "0.5"), "");
  EXPECT_THAT(complaint(&WorkerWords::workers, "0"), HasSubstr("--workers: '0' is not auto or"));
  EXPECT_THAT(complaint(&WorkerWords::workers, "8x"), HasSubstr("--workers"));
  EXPECT_THAT(complaint(&WorkerWords::restart, "on-failure:"), HasSubstr("--restart"));
  EXPECT_THAT(complaint(&WorkerWords::restart, "never:1"), HasSubstr("--restart"));
  EXPECT_THAT(complaint(&WorkerWords::grace, "nan"), HasSubstr("--grace"));
  EXPECT_THAT(complaint(&WorkerWords::grace, "-1"), HasSubstr("--grace"));
}

}  // namespace
}  // namespace pylaunch
