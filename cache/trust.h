#ifndef PYLAUNCH_CACHE_TRUST_H_
#define PYLAUNCH_CACHE_TRUST_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <string_view>

#include "cache/file_env.h"

namespace pylaunch::cache {

// Whether another user could have written the file at `path`, which is `st`: then code in it is not
// even parsed. Empty: nobody but the effective user, root, and whom the next paragraph names; else
// why not, in words.
//
// In a user namespace all users that it does not map have one id (overflowuid, user_namespaces(7)):
// root's files look as any stranger's do, and if the user is not mapped either, as the user's own,
// which are told by what only an owner may do. Such a file is trusted if no folder on its real path
// is writable by group or others, sticky or not: then it can be only of somebody who owns a folder
// that was named to us, as PYTHONPATH's are. archive.md compares that with others' rules.
std::string WhyNotTrusted(FileEnv& env, const struct stat& st, const std::string& path);

// Whether `uid_map`, the text of /proc/self/uid_map, has somebody with the id `uid`.
bool IsMapped(std::string_view uid_map, uid_t uid);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_TRUST_H_
