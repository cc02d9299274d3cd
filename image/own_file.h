#ifndef PYLAUNCH_IMAGE_OWN_FILE_H_
#define PYLAUNCH_IMAGE_OWN_FILE_H_

#include <sys/stat.h>

#include <string>

#include "cache/descriptor.h"

namespace pylaunch::image {

// Whether `st`, a file or folder at `path`, is this user's or root's, and nobody else can write it.
bool IsOwn(const struct stat& st, const std::string& path);

// Opens for reading a regular file, no link, that nobody but this user and root can have written,
// and stats it. Who else may read it is for its owner to say. The descriptor is kept across execve.
// Not ok() with errno set: EPERM where another can have written it.
cache::Descriptor OpenOwn(const std::string& path, struct stat* st);

// Of a file or folder of this user's that is for others, too (KeyHead::shared).
void LetOthersRead(const std::string& path);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_OWN_FILE_H_
