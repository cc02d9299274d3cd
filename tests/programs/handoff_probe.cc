// Stands where a Python should (tests/whole/start/test_usual_start.py) and prints what the front
// end has handed on to it, as lines of hex: arguments, environment with every trace of the handoff
// taken away, the handoff in its long form; before them whether it came as that of a usual start.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "launcher/engine/start/takeover.h"

extern char** environ;

namespace {

void Print(const char* what, std::string_view bytes) {
  std::printf("%s ", what);
  for (const char c : bytes) std::printf("%02x", static_cast<unsigned char>(c));
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  char* variable = std::getenv(pylaunch::kHandoffVariable);
  pylaunch::HandoffVariable told;
  const bool handed = variable != nullptr && pylaunch::ParseHandoffVariable(variable, &told);
  std::printf("usual %d\n", handed && told.usual != nullptr);
  const std::optional<pylaunch::Handoff> handoff = pylaunch::engine::TakeHandoff();
  for (int i = 0; i < argc; ++i) Print("argument", argv[i]);
  for (char** setting = environ; *setting != nullptr; ++setting) Print("variable", *setting);
  Print("handoff", handoff ? handoff->Serialize() : "");
}
