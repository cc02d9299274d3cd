#include "launcher/workers/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "cache/descriptor.h"
#include "launcher/workers/guard.h"
#include "launcher/workers/log_files.h"
#include "launcher/workers/process_tree.h"
#include "launcher/workers/relay.h"
#include "launcher/workers/status_line.h"
#include "launcher/workers/worker.h"

namespace pylaunch {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kNever = INT64_MAX;

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecondNs + now.tv_nsec;
}

// What epoll tells that is no worker's output.
enum : uint64_t { kSignals, kGuard, kTurn, kSinkOut, kSinkErr, kFirstOutput };

// What a worker, or one that it left behind, writes to.
struct Output {
  Output(cache::Descriptor from, Relay* relay, std::string prefix, size_t of)
      : fd(std::move(from)), stream(relay, std::move(prefix)), worker(of) {}
  cache::Descriptor fd;  // Not blocking.
  Relay::Stream stream;
  size_t worker;
  bool remembered = false;  // It is stderr.
  bool polled = true;
};

std::string Prefix(size_t k, int fd) {
  constexpr int kColours = 6, kFirst = 31;          // Red and so on; black and white are left out.
  const char* no_colour = std::getenv("NO_COLOR");  // https://no-color.org
  if (!isatty(fd) || (no_colour != nullptr && *no_colour != '\0'))
    return absl::StrCat("[", k, "] ");
  return absl::StrFormat("\x1b[%dm[%d]\x1b[0m ", kFirst + static_cast<int>(k) % kColours, k);
}

// The ends of the pipes and files that a worker is started with. -1: as the supervisor's own.
struct Streams {
  int out = -1;
  int err = -1;
};

class Supervisor {
 public:
  Supervisor(const SupervisorOptions& options, const WorkerPlan& plan, const Guard& guard)
      : options_(options), plan_(plan), guard_(guard), workers_(plan.own.size()) {}

  Role Run();

 private:
  void Open();
  void Watch(int fd, uint64_t what, uint32_t events = EPOLLIN) const;
  // Also where a child on its way to execve still holds what it refers to.
  void Forget(int fd) const { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }
  void Say(const std::string& text);
  void Explain(const std::string& text);

  // Starts who is due. True in a worker.
  bool StartDue(int64_t now, Role* role);
  bool Start(size_t k, int64_t now, Role* role);
  Streams OpenStreams(size_t k);
  int OpenPipe(size_t k, bool is_err);
  void BecomeWorker(size_t k, const Streams& streams, int turn, Role* role);

  int64_t NextDeadline() const;
  void Wait(int64_t now);
  void StopWaitingForImage();
  void Handle(uint64_t what);
  void ReadSignals();
  void PassOn(int signal, bool from_terminal);
  void Stop(int signal, bool because_of_failure);
  void KillAll();
  void Reap();
  void Ended(size_t k, int status);
  void Report(size_t k);
  void Read(uint64_t id);
  void Drain(size_t k);
  void ResumeReading();
  void WriteSinks();
  bool AllDone() const;
  bool IsQuiet();
  void MindLongLines(int64_t now);
  void KillWhoIsLate(int64_t now);
  int Finish();

  const SupervisorOptions& options_;
  const WorkerPlan& plan_;
  const Guard& guard_;
  std::vector<Worker> workers_;
  Relay out_{STDOUT_FILENO};
  Relay err_{STDERR_FILENO};
  Relay::Stream own_out_{&out_, ""};
  Relay::Stream own_err_{&err_, ""};
  StatusLine status_{STDERR_FILENO};
  std::map<uint64_t, std::unique_ptr<Output>> outputs_;
  uint64_t next_output_ = kFirstOutput;
  cache::Descriptor epoll_{epoll_create1(EPOLL_CLOEXEC)};
  cache::Descriptor signals_{-1};
  cache::Descriptor null_{open("/dev/null", O_RDONLY | O_CLOEXEC)};
  cache::Descriptor turn_{-1};  // The others wait while it is open.
  rlimit files_before_ = {};
  bool stopping_ = false;
  bool interrupted_ = false;
  bool sink_polled_[2] = {};
  int64_t kill_ns_ = kNever;
  int64_t interrupt_line_ns_ = kNever;
  size_t long_line_progress_ = 0;
  int stop_signal_ = 0;
  bool killed_ = false;
};

void Supervisor::Watch(int fd, uint64_t what, uint32_t events) const {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = what;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

void Supervisor::Say(const std::string& text) {
  own_err_.Take(absl::StrCat("pylaunch: ", text, "\n"));
}

void Supervisor::Explain(const std::string& text) {
  if (options_.explain) Say(absl::StrCat("explain: workers: ", text));
}

void Supervisor::Open() {
  // Two pipes a worker.
  getrlimit(RLIMIT_NOFILE, &files_before_);
  rlimit more = files_before_;
  more.rlim_cur = more.rlim_max;
  setrlimit(RLIMIT_NOFILE, &more);
  sigset_t all;
  sigprocmask(SIG_SETMASK, nullptr, &all);
  signals_ = cache::Descriptor(signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC));
  Watch(signals_.get(), kSignals);
  if (guard_.alive_fd >= 0) Watch(guard_.alive_fd, kGuard);
}

int Supervisor::OpenPipe(size_t k, bool is_err) {
  cache::Pipe pipe(O_CLOEXEC);
  if (!pipe.reading().ok()) return -1;
  fcntl(pipe.reading().get(), F_SETFL, O_NONBLOCK);
  Relay* relay = is_err ? &err_ : &out_;
  const uint64_t id = next_output_++;
  Watch(pipe.reading().get(), id);
  auto output = std::make_unique<Output>(
      std::move(pipe.reading()), relay,
      options_.workers.no_prefix ? "" : Prefix(k, is_err ? STDERR_FILENO : STDOUT_FILENO), k);
  output->remembered = is_err;
  outputs_.emplace(id, std::move(output));
  return pipe.writing().Release();
}

Streams Supervisor::OpenStreams(size_t k) {
  const WorkerOptions& options = options_.workers;
  if (options.log_dir.empty()) return {OpenPipe(k, false), OpenPipe(k, true)};
  Worker& worker = workers_[k];
  const absl::StatusOr<std::string> folder = MakeLogFolder(options.log_dir, k, worker.attempt);
  if (!folder.ok()) {
    Say(absl::StrCat("warning: ", folder.status().message()));
    return {OpenPipe(k, false), OpenPipe(k, true)};
  }
  worker.log_folder = *folder;
  return {OpenLog(*folder, "stdout.log"), OpenLog(*folder, "stderr.log")};
}

void Supervisor::BecomeWorker(size_t k, const Streams& streams, int turn, Role* role) {
  const Worker& worker = workers_[k];
  setpgid(0, worker.has_stdin ? guard_.started_group : 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setrlimit(RLIMIT_NOFILE, &files_before_);
  RestoreSignals(guard_);
  if (!worker.has_stdin) dup2(null_.get(), STDIN_FILENO);
  if (streams.out >= 0) dup2(streams.out, STDOUT_FILENO);
  if (streams.err >= 0) dup2(streams.err, STDERR_FILENO);
  for (const std::vector<EnvSetting>* settings : {&plan_.shared, &plan_.own[k]}) {
    for (const EnvSetting& s : *settings) setenv(s.name.c_str(), s.value.c_str(), !s.only_if_unset);
  }
  setenv("PYLAUNCH_WORKER_ATTEMPT", std::to_string(worker.attempt).c_str(), 1);
  unsetenv("PYLAUNCH_WORKERS");  // What it starts is one process.
  *role = {true, 0, turn};
}

bool Supervisor::Start(size_t k, int64_t now, Role* role) {
  Worker& worker = workers_[k];
  const Streams streams = OpenStreams(k);
  worker.has_stdin = options_.workers.stdin_to == static_cast<int>(k);
  cache::Descriptor turn(-1);
  if (k == 0 && !worker.ran && options_.image && workers_.size() > 1) {
    cache::Pipe pipe(O_CLOEXEC);
    turn_ = std::move(pipe.reading());
    turn = std::move(pipe.writing());
    Watch(turn_.get(), kTurn);
  }
  const pid_t supervisor = getpid();
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    BecomeWorker(k, streams, turn.Release(), role);
    if (getppid() != supervisor) _exit(EXIT_FAILURE);
    return true;
  }
  for (const int end : {streams.out, streams.err}) {
    if (end >= 0) close(end);
  }
  worker.started_ns = now;
  worker.ran = true;
  if (pid < 0) {
    Say(absl::StrCat("warning: worker ", k, " cannot be started: ", std::strerror(errno)));
    worker.ending = {EXIT_FAILURE, 0};
    worker.Next(options_.workers.restart, stopping_, now);
    return false;
  }
  if (!worker.has_stdin) setpgid(pid, 0);  // Whoever of the two is quicker.
  worker.pid = pid;
  worker.state = Worker::State::kRunning;
  worker.last_lines.clear();
  Explain(absl::StrCat(k, " is process ", pid, ", attempt ", worker.attempt));
  return false;
}

bool Supervisor::StartDue(int64_t now, Role* role) {
  for (size_t k = 0; k < workers_.size(); ++k) {
    if (workers_[k].state != Worker::State::kWaiting || workers_[k].due_ns > now) continue;
    if (turn_.ok() && k > 0) continue;
    if (Start(k, now, role)) return true;
  }
  return false;
}

int64_t Supervisor::NextDeadline() const {
  int64_t next = std::min({kill_ns_, status_.due_ns(), interrupt_line_ns_});
  for (size_t k = 0; k < workers_.size(); ++k) {
    if (workers_[k].state != Worker::State::kWaiting || (turn_.ok() && k > 0)) continue;
    next = std::min(next, workers_[k].due_ns);
  }
  return next;
}

void Supervisor::Wait(int64_t now) {
  constexpr int64_t kMillisecondNs = 1'000'000;
  constexpr int kEvents = 64;
  const int64_t next = NextDeadline();
  const int timeout = next == kNever
                          ? -1
                          : static_cast<int>(std::clamp<int64_t>(
                                (next - now + kMillisecondNs - 1) / kMillisecondNs, 0, 1 << 30));
  epoll_event events[kEvents];
  const int count = epoll_wait(epoll_.get(), events, kEvents, timeout);
  for (int i = 0; i < count; ++i) Handle(events[i].data.u64);
}

void Supervisor::StopWaitingForImage() {
  if (!turn_.ok()) return;
  Forget(turn_.get());
  turn_.Close();
}

void Supervisor::Handle(uint64_t what) {
  if (what == kSignals) return ReadSignals();
  if (what == kGuard) {  // Nobody is left whom we could answer.
    KillAllBelow();
    _exit(128 + SIGKILL);
  }
  if (what == kTurn) {
    StopWaitingForImage();
    Explain("the image of worker 0 is made, or will not be: the others start");
    return;
  }
  if (what >= kFirstOutput) Read(what);
}

void Supervisor::ReadSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      Reap();
      continue;
    }
    if (!IsPassedOn(signal)) continue;
    const bool from_terminal =
        info.ssi_code == SI_QUEUE && info.ssi_int == static_cast<int>(Sender::kTerminal);
    const bool ends =
        signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGQUIT;
    if (signal == SIGINT && std::exchange(interrupted_, true)) {
      Say("interrupted again: all workers are killed");
      KillAll();
      continue;
    }
    PassOn(signal, from_terminal);
    if (ends) Stop(signal, /*because_of_failure=*/false);
  }
}

void Supervisor::PassOn(int signal, bool from_terminal) {
  for (const Worker& worker : workers_) {
    if (worker.state != Worker::State::kRunning) continue;
    // One in the terminal's foreground has had it.
    if (!worker.has_stdin) {
      kill(-worker.pid, signal);
    } else if (!from_terminal) {
      kill(worker.pid, signal);
    }
  }
}

// Nothing is started any more, and who has not ended in time is killed.
void Supervisor::Stop(int signal, bool because_of_failure) {
  if (stopping_) return;
  stopping_ = true;
  stop_signal_ = signal;
  StopWaitingForImage();
  const double grace = options_.workers.grace_seconds;
  kill_ns_ = NowNs() + static_cast<int64_t>(grace * kSecondNs);
  Explain(absl::StrCat("signal ", signal, " is passed on; killed is who has not ended in ", grace,
                       " s"));
  for (Worker& worker : workers_) {
    if (worker.state == Worker::State::kWaiting) worker.state = Worker::State::kDone;
    if (because_of_failure && worker.state == Worker::State::kRunning) worker.stopped = true;
  }
}

void Supervisor::KillAll() {
  kill_ns_ = kNever;
  stopping_ = true;
  killed_ = true;
  std::vector<pid_t> running;
  for (Worker& worker : workers_) {
    if (worker.state == Worker::State::kWaiting) worker.state = Worker::State::kDone;
    if (worker.state == Worker::State::kRunning) running.push_back(worker.pid);
  }
  for (const pid_t pid : Descendants(running)) kill(pid, SIGKILL);
  PassOn(SIGKILL, /*from_terminal=*/false);
  for (const pid_t pid : running) kill(pid, SIGKILL);  // It may not lead its group yet.
}

void Supervisor::Reap() {
  int status = 0;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    const auto worker = std::find_if(workers_.begin(), workers_.end(), [pid](const Worker& w) {
      return w.state == Worker::State::kRunning && w.pid == pid;
    });
    // Else it is an orphan that a worker left.
    if (worker != workers_.end()) Ended(static_cast<size_t>(worker - workers_.begin()), status);
  }
}

void Supervisor::Ended(size_t k, int status) {
  Worker& worker = workers_[k];
  const int64_t now = NowNs();
  worker.seconds = static_cast<double>(now - worker.started_ns) / kSecondNs;
  worker.ending = Ending::Of(status);
  worker.pid = 0;
  Drain(k);
  worker.Next(options_.workers.restart, stopping_, now);
  Report(k);
  const bool failed = worker.state == Worker::State::kDone && !worker.ending.good();
  if (failed && options_.workers.stop_on_failure && !stopping_) {
    PassOn(SIGTERM, false);
    Stop(SIGTERM, /*because_of_failure=*/true);
  }
}

void Supervisor::Report(size_t k) {
  constexpr size_t kLines = 5, kTail = 2048;
  const Worker& worker = workers_[k];
  const std::string how =
      absl::StrFormat("%s after %.1f s", worker.ending.InWords(), worker.seconds);
  if (worker.ending.good()) return Explain(absl::StrCat(k, " has ended: ", how));
  if (worker.stopped || (stopping_ && worker.ending.signal == stop_signal_))
    return Explain(absl::StrCat(k, " was stopped: ", how));
  std::string text = absl::StrCat("worker ", k, " failed: ", how);
  if (worker.state == Worker::State::kWaiting) {
    absl::StrAppend(&text, "; it starts again in ",
                    (worker.due_ns - NowNs() + kSecondNs / 2) / kSecondNs, " s");
  }
  const std::string tail = worker.log_folder.empty()
                               ? worker.last_lines
                               : TailOf(worker.log_folder + "/stderr.log", kTail);
  std::vector<std::string> lines = absl::StrSplit(tail, '\n', absl::SkipWhitespace());
  if (lines.size() > kLines) lines.erase(lines.begin(), lines.end() - kLines);
  for (const std::string& line : lines) absl::StrAppend(&text, "\n  | ", line);
  Say(text);
}

void Supervisor::Read(uint64_t id) {
  const auto found = outputs_.find(id);
  if (found == outputs_.end()) return;
  Output& output = *found->second;
  char buffer[64 << 10];
  while (output.stream.wants_more()) {
    const ssize_t n = read(output.fd.get(), buffer, sizeof buffer);
    if (n > 0) {
      const std::string_view bytes(buffer, static_cast<size_t>(n));
      output.stream.Take(bytes);
      if (output.remembered) workers_[output.worker].Remember(bytes);
    } else if (n == 0) {
      Forget(output.fd.get());
      output.fd.Close();
      output.stream.End();
      if (output.stream.idle()) outputs_.erase(found);
      return;
    } else {
      if (errno == EINTR) continue;
      return;
    }
  }
  Forget(output.fd.get());
  output.polled = false;
}

// What a worker that has ended left in its pipes.
void Supervisor::Drain(size_t k) {
  std::vector<uint64_t> ids;
  for (const auto& [id, output] : outputs_) {
    if (output->worker == k && output->fd.ok()) ids.push_back(id);
  }
  for (const uint64_t id : ids) Read(id);
}

void Supervisor::ResumeReading() {
  for (auto it = outputs_.begin(); it != outputs_.end();) {
    Output& output = *it->second;
    if (!output.fd.ok() && output.stream.idle()) {
      it = outputs_.erase(it);
      continue;
    }
    if (output.fd.ok() && !output.polled && output.stream.wants_more()) {
      output.polled = true;
      Watch(output.fd.get(), it->first);
    }
    ++it;
  }
}

void Supervisor::WriteSinks() {
  if (!out_.sink().empty() || !err_.sink().empty()) status_.Hide();
  for (auto [relay, what] : {std::pair(&out_, kSinkOut), std::pair(&err_, kSinkErr)}) {
    Sink& sink = relay->sink();
    sink.Write();
    // Only while there is need: of a reader that is gone epoll tells again and again.
    bool& polled = sink_polled_[what - kSinkOut];
    if (polled && sink.empty()) Forget(sink.fd());
    if (!polled && !sink.empty()) Watch(sink.fd(), what, EPOLLOUT);
    polled = !sink.empty();
  }
}

bool Supervisor::AllDone() const {
  return std::all_of(workers_.begin(), workers_.end(),
                     [](const Worker& worker) { return worker.state == Worker::State::kDone; });
}

// One record of a worker for programs.
std::string Record(size_t k, const Worker& worker) {
  nlohmann::ordered_json record;
  record["worker"] = k;
  record["exit_code"] = worker.ran ? nlohmann::ordered_json(worker.ending.exit_code()) : nullptr;
  record["signal"] =
      worker.ending.signal == 0 ? nullptr : nlohmann::ordered_json(worker.ending.signal);
  record["seconds"] = worker.seconds;
  record["attempts"] = worker.attempt + 1;
  record["stopped"] = worker.stopped;
  if (!worker.log_folder.empty()) record["logs"] = worker.log_folder;
  return record.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

// Nothing that workers wrote is on its way.
bool Supervisor::IsQuiet() {
  if (!out_.sink().empty() || !err_.sink().empty()) return false;
  for (const auto& [id, output] : outputs_) {
    if (!output->polled) return false;
    pollfd ready = {output->fd.get(), POLLIN, 0};
    if (poll(&ready, 1, 0) == 1) return false;
  }
  return true;
}

// A worker that is silent in the midst of a long line does not hold up the others for good.
void Supervisor::MindLongLines(int64_t now) {
  if (!out_.is_held_up() && !err_.is_held_up()) {
    interrupt_line_ns_ = kNever;
    return;
  }
  const size_t moved = out_.progress() + err_.progress();
  if (interrupt_line_ns_ != kNever && moved == long_line_progress_ && now < interrupt_line_ns_)
    return;
  if (interrupt_line_ns_ != kNever && moved == long_line_progress_) {
    out_.Interrupt();
    err_.Interrupt();
  }
  long_line_progress_ = moved;
  interrupt_line_ns_ = now + kSecondNs;
}

void Supervisor::KillWhoIsLate(int64_t now) {
  if (now < kill_ns_) return;
  const auto late = std::count_if(workers_.begin(), workers_.end(), [](const Worker& worker) {
    return worker.state == Worker::State::kRunning;
  });
  if (late > 0) {
    Say(absl::StrFormat("%d worker%s not ended within %g s and %s killed", late,
                        late == 1 ? " has" : "s have", options_.workers.grace_seconds,
                        late == 1 ? "is" : "are"));
  }
  KillAll();
}

int Supervisor::Finish() {
  // What orphans still hold open is not waited for.
  for (const auto& [id, output] : outputs_) output->stream.End();
  int code = 0;
  for (size_t k = 0; k < workers_.size(); ++k) {
    const Worker& worker = workers_[k];
    if (worker.ran && !worker.stopped) code = std::max(code, worker.ending.exit_code());
    if (options_.json) own_out_.Take(Record(k, worker));
  }
  for (Relay* relay : {&out_, &err_}) {
    Sink& sink = relay->sink();
    for (sink.Write(); !sink.empty(); sink.Write()) {
      pollfd ready[] = {
          {sink.fd(), POLLOUT, 0}, {signals_.get(), POLLIN, 0}, {guard_.alive_fd, POLLIN, 0}};
      poll(ready, std::size(ready), -1);
      if (ready[1].revents != 0) ReadSignals();
      if (killed_ || ready[2].revents != 0) return code;
    }
  }
  return code;
}

Role Supervisor::Run() {
  Open();
  if (!plan_.threads_note.empty()) Say(plan_.threads_note);
  Explain(absl::StrCat(plan_.count, " on ", plan_.processors, " processors"));
  Role role;
  while (true) {
    const int64_t now = NowNs();
    KillWhoIsLate(now);
    if (StartDue(now, &role)) return role;
    MindLongLines(now);
    WriteSinks();
    ResumeReading();
    if (AllDone() && (killed_ || IsQuiet())) break;
    if (out_.sink().empty() && err_.sink().empty()) status_.Show(workers_, now);
    Wait(now);
  }
  status_.Hide();
  role.exit_code = Finish();
  return role;
}

}  // namespace

Role Supervise(const SupervisorOptions& options, const WorkerPlan& plan) {
  Guard guard;
  if (const std::optional<int> code = BecomeSupervisor(&guard)) return {false, *code, -1};
  return Supervisor(options, plan, guard).Run();
}

}  // namespace pylaunch
