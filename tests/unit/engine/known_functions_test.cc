#include "launcher/engine/base/known_functions.h"

#include <gtest/gtest.h>

#include <string>

namespace pylaunch::engine {
namespace {

const KnownFunction kFunction =
    ParseKnownFunctions("a.b:read prefix=\"A_\" uses=PREFIX source=0").front();
const std::string kSource =
    "PREFIX = 'A_'\n"
    "@cached\n"
    "def read(names):\n"
    "    return [x for x in names if x.startswith(PREFIX)]\n"
    "\n"
    "read(os.environ)\n";

std::string With(const std::string& found, const std::string& other) {
  std::string source = kSource;
  return source.replace(source.find(found), found.size(), other);
}

TEST(KnownFunctionsTest, DigestIsOfAllThatTheFunctionIs) {
  const uint64_t digest = SourceDigest(kFunction, kSource);
  EXPECT_NE(digest, 0u);
  EXPECT_EQ(SourceDigest(kFunction, With("read(os.environ)", "other = 1")), digest);
  for (const char* part : {"'A_'", "cached", "names if", "startswith"}) {
    EXPECT_NE(SourceDigest(kFunction, With(part, "changed")), digest) << part;
  }
}

TEST(KnownFunctionsTest, ACallBindsNothing) {
  EXPECT_EQ(SourceDigest(kFunction, With("def read(", "def write(")), 0u);
}

}  // namespace
}  // namespace pylaunch::engine
