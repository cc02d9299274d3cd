#ifndef PYLAUNCH_IMAGE_SECRETS_H_
#define PYLAUNCH_IMAGE_SECRETS_H_

#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

// Which variables of the environment are secrets, and what a copy of their values is in memory.

namespace pylaunch::image {

// A whole word of the name says so: HF_TOKEN and api_key, not TOKENIZERS_PARALLELISM.
bool IsSecretName(std::string_view name);
// The same and more: a name whose value is not to be repeated in a log or a file. A part of it says
// so: DBPASSWORD, OPENAI_KEY2, and KEYBOARD too.
bool IsPrivateName(std::string_view name);

// True if a copy of the secret `name` could not be told from other memory, for `value` has less
// than eight characters. Not where there is nothing to hide: an empty value, or a switch's
// (HF_HUB_DISABLE_IMPLICIT_TOKEN=1).
bool IsShortSecret(std::string_view name, std::string_view value);

// What a copy of `value` may be, each once, without the zeros that it ends with: its bytes; the
// strings of CPython, which have one, two or four bytes a character (PEP 393), of the text that
// os.environ decodes it to (UTF-8, PEP 383); and that text in JSON. Only what is long enough to be
// told from other memory. All memory comes from `memory`.
std::pmr::vector<std::pmr::string> FormsOf(std::string_view value,
                                           std::pmr::memory_resource* memory);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_SECRETS_H_
