#include "launcher/engine/shield/shield_report.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "launcher/engine/base/report.h"

namespace pylaunch::engine {
namespace {

// importlib calls the shield with nothing of ours. Under the GIL.
constinit struct {
  bool on = false;
  int lines = 0;
} g;

void Say(const std::string& text) {
  if (g.lines == kMaxShieldLines) Explain("shield: further rescues are not told");
  if (g.lines++ < kMaxShieldLines) Explain("shield: " + text);
}

// An exception that is set stays set.
std::string Text(PyObject* str) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  const char* text = PyUnicode_Check(str) ? PyUnicode_AsUTF8(str) : nullptr;
  std::string out = text != nullptr ? text : "?";
  PyErr_Restore(type, value, traceback);
  return out;
}

std::string ThisThread() { return "thread " + std::to_string(syscall(SYS_gettid)); }

std::string Holder(const WaitStory& story) {
  return "thread " + std::to_string(story.holder) + " (which imports '" + story.holder_module +
         "')";
}

std::string Milliseconds(const WaitStory& story) {
  return std::to_string(story.nanoseconds / 1'000'000) + " ms";
}

std::string_view Package(std::string_view name) { return name.substr(0, name.find('.')); }

// The waiter went on as stock does, since the thread it waited for was blocked or imported nothing.
void GaveUp(const std::string& what, const WaitStory& story) {
  Say(ThisThread() + " gave up waiting for " + Holder(story) + " after " + Milliseconds(story) +
      " and " + what + " beside it, as stock does");
}

}  // namespace

void ReportShield(bool on) { g.on = on; }

void ReportTurn(PyObject* name, const WaitStory& story, bool there) {
  if (!g.on || !story.waited) return;
  std::string text = Text(name);
  if (story.gave_up) return GaveUp("imports '" + text + "'", story);
  if (!there && Package(text) != Package(story.holder_module)) return;
  Say(ThisThread() + " waited " + Milliseconds(story) + " for " + Holder(story) +
      (there ? " and had '" + text + "' from it" : " before it imports '" + text + "'") +
      " (stock: both at once; a partial module, ImportError or _DeadlockError where they meet)");
}

void ReportAwaited(PyObject* name, const WaitStory& story) {
  if (!g.on || !story.waited) return;
  std::string text = Text(name);
  if (story.gave_up) return GaveUp("goes on with '" + text + "'", story);
  Say(ThisThread() + " waited " + Milliseconds(story) + " for '" + text + "' being imported by " +
      Holder(story) + " (stock: partial module where imports go in a circle)");
}

void ReportRetry(PyObject* name) {
  if (!g.on) return;
  Say(ThisThread() + " imports '" + Text(name) +
      "' again: the import it waited for failed (stock: half-built module)");
}

void ReportForward(PyObject* name, PyObject* attribute) {
  if (!g.on) return;
  Say(ThisThread() + " found '" + Text(attribute) + "' of '" + Text(name) +
      "', which had replaced itself in sys.modules (stock: AttributeError or ImportError: cannot "
      "import name)");
}

void ReportFork(const WaitStory& story) {
  if (!g.on || !story.waited) return;
  if (story.gave_up) return GaveUp("forks", story);
  Say(ThisThread() + " waited " + Milliseconds(story) + " for " + Holder(story) +
      " before it forked (stock: the child hangs when it imports the same)");
}

void ReportAbandoned(PyObject* name, bool kept) {
  if (!g.on) return;
  Say("'" + Text(name) + "' was being imported when this process was forked; " +
      (kept ? "taken as it is" : "imported anew") + " (stock: hangs)");
}

}  // namespace pylaunch::engine
