#ifndef PYLAUNCH_IMAGE_OWN_FILE_H_
#define PYLAUNCH_IMAGE_OWN_FILE_H_

#include <sys/stat.h>

#include <string>

namespace pylaunch::image {

// Opens for reading a regular file, no link, that nobody but this user and root can have written,
// and stats it. Who else may read it is for its owner to say. The descriptor is kept across execve.
// -1 with errno set: EPERM where another can have written it.
int OpenOwn(const std::string& path, struct stat* st);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_OWN_FILE_H_
