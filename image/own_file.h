#ifndef PYLAUNCH_IMAGE_OWN_FILE_H_
#define PYLAUNCH_IMAGE_OWN_FILE_H_

#include <sys/stat.h>

#include <string>

namespace pylaunch::image {

// Opens for reading a regular file, no link, that nobody but this user could have written or read,
// and stats it. The descriptor is kept across execve. -1 with errno set: EPERM where it is
// another's.
int OpenOwn(const std::string& path, struct stat* st);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_OWN_FILE_H_
