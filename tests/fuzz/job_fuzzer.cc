// libFuzzer over what a sealer finds in its descriptor: Parse neither crashes nor leaks, and what
// it accepts is what Serialize would write.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cache/seal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto job = pylaunch::cache::SealJob::Parse(bytes);
  // The flags are bytes of which only zero and not zero count.
  if (job && job->Serialize().size() != bytes.size()) abort();
  return 0;
}
