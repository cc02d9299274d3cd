#include "launcher/tools/doctor_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace pylaunch {
namespace {

using ::testing::ElementsAre;
using Words = std::vector<std::string>;

Words Arguments(const Words& argv) {
  absl::StatusOr<Options> options = ParseOptions(argv, {});
  EXPECT_TRUE(options.ok()) << options.status();
  PythonHome home;
  home.executable = "/py";
  return DoctorArguments(*options, home, "/doctor.py", 7);
}

TEST(DoctorArguments, KeepPythonsOptionsInFrontAndTheProgramBehind) {
  EXPECT_THAT(Arguments({"p", "--doctor"}), ElementsAre("/py", "/doctor.py", "7"));
  EXPECT_THAT(Arguments({"p", "--doctor", "-X", "dev", "-s", "x.py", "-c", "y"}),
              ElementsAre("/py", "-X", "dev", "-s", "/doctor.py", "7", "x.py", "-c", "y"));
  EXPECT_THAT(Arguments({"p", "--doctor", "-c", "import x"}),
              ElementsAre("/py", "/doctor.py", "7", "-c", "import x"));
}

TEST(DoctorArguments, PartOptionsThatStandInOneWordWithTheProgram) {
  EXPECT_THAT(Arguments({"p", "--doctor", "-Ic", "x"}),
              ElementsAre("/py", "-I", "/doctor.py", "7", "-c", "x"));
  EXPECT_THAT(Arguments({"p", "--doctor", "-Esmpkg", "x"}),
              ElementsAre("/py", "-Es", "/doctor.py", "7", "-mpkg", "x"));
}

TEST(DoctorRequest, IsJsonWhateverBytesThePathsHave) {
  Options options;
  options.json = true;
  PythonHome home;
  home.executable = "/py\xff";
  PreloadPlan plan;
  plan.entries.push_back({PreloadEntry::Kind::kFrom,
                          {"a.txt", 3, 1},
                          "m:f",
                          true,
                          false,
                          {{"A", "b", true}},
                          "m",
                          {"f"}});
  const nlohmann::json request = nlohmann::json::parse(DoctorRequest(options, home, plan));
  EXPECT_TRUE(request["json"].get<bool>());
  const nlohmann::json& entry = request["entries"][0];
  EXPECT_EQ(entry["kind"], 1);
  EXPECT_EQ(entry["env"][0][0], "A");
  EXPECT_EQ(entry["names"][0], "f");
  EXPECT_TRUE(entry["optional"].get<bool>());
}

}  // namespace
}  // namespace pylaunch
