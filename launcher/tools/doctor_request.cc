#include "launcher/tools/doctor_request.h"

#include <nlohmann/json.hpp>

namespace pylaunch {

using Json = nlohmann::json;

std::string DoctorRequest(const Options& options, const PythonHome& home, const PreloadPlan& plan) {
  Json entries = Json::array();
  for (const PreloadEntry& e : plan.entries) {
    Json env = Json::array();
    for (const EnvSetting& s : e.env)
      env.push_back(Json::array({s.name, s.value, s.only_if_unset}));
    entries.push_back(Json{{"kind", static_cast<int>(e.kind)},
                           {"source", e.location.source},
                           {"line", e.location.line},
                           {"column", e.location.column},
                           {"text", e.text},
                           {"optional", e.optional},
                           {"env", std::move(env)},
                           {"module", e.module},
                           {"names", e.names}});
  }
  Json request{{"json", options.json},
               {"python", home.executable},
               {"why", home.why},
               {"asked", options.python},
               {"entries", std::move(entries)}};
  return request.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<std::string> DoctorArguments(const Options& options, const PythonHome& home,
                                         const std::string& script, int request_fd) {
  const std::vector<std::string>& given = options.python_argv;
  std::vector<std::string> args = {home.executable};
  for (size_t i = 1; i < options.program; ++i) args.push_back(given[i]);
  std::vector<std::string> program(given.begin() + static_cast<long>(options.program), given.end());
  // "-Ic CMD" is "-I" and "-c CMD".
  if (!program.empty() && program[0].starts_with('-')) {
    const size_t letter = program[0].find_first_of("cm", 1);
    if (letter != std::string::npos && letter > 1) {
      args.push_back(program[0].substr(0, letter));
      program[0].erase(1, letter - 1);
    }
  }
  args.push_back(script);
  args.push_back(std::to_string(request_fd));
  args.insert(args.end(), program.begin(), program.end());
  return args;
}

}  // namespace pylaunch
