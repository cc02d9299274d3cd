#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_OUTPUT_RECORD_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_OUTPUT_RECORD_H_

#include <cstdint>
#include <set>
#include <string>
#include <utility>

namespace pylaunch::engine {

// What this process and those that it forked wrote to standard output and standard error while it
// was recorded, byte for byte and in order, so that a restored process can write it again. What
// lies in buffers of Python's streams is not written yet: resume.py has it. What cannot be written
// again is told: C's streams write where nobody sees it, child processes that execute something
// too; a copy of a descriptor may be of either stream; the time and the process number are other
// ones the next time.

// Before Python starts. What this process's descriptors 1 and 2 are now is the two streams.
void StartOutputRecord();
// Ends it; what was recorded stays. If the working directory stands in it, that was a question of
// the start (file_record.h).
void StopOutputRecord();

// What Python has not written out yet; what is said of output below is said of that, too.
void NotePendingOutput(std::string text);
// What was done until now that cannot be repeated, in words ("printed the time"), with what tells
// it from the same at another time: how often this was asked before. Not on several threads at
// once.
std::set<std::pair<std::string, std::string>> UnrepeatableOutput();
// Another number whenever something was printed, as far as is known.
uint64_t OutputMark();

// Once it has stopped: whether that stream, 1 or 2, has been written to.
bool HasPrinted(int stream);
// In a restored process: writes it all. False, with errno: not all of it could be written.
bool RepeatOutput();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_OUTPUT_RECORD_H_
