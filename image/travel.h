#ifndef PYLAUNCH_IMAGE_TRAVEL_H_
#define PYLAUNCH_IMAGE_TRAVEL_H_

#include <string>
#include <string_view>

#include "image/key.h"

// Which of an image's facts another host, or another boot of this one, may have otherwise. What a
// restored process depends on is a fact with an order: a processor that has all that the image's
// had will do. What only proves that files are the same (the boot, stamps of the engine) says
// nothing elsewhere, where files are proved by their content (adoption.h).

namespace pylaunch::image {

// True for the name of such a fact.
bool IsOfHost(std::string_view name);

// True for the name of a fact that says what a process may do. Whoever may do less could perhaps
// not have read all that preloading has read.
bool IsOfRights(std::string_view name);

// Which facts of an image's may be otherwise where it is adopted: those of a host; unless
// preloading asked who it is that asks, groups and capabilities, since each file is read when they
// differ; and of an image that is made for others, the user.
Facts WithoutTravelling(const Facts& facts, const KeyHead& head);

// Why a process of the image cannot run where `now` is so, in words as Difference's; an empty
// string: it can. Looks at facts of a host alone. How many processors there are counts if
// preloading asked: who made as many threads, or noted that, would have another number.
std::string WhyNotHere(const KeyHead& made, const Facts& now);

// Whether processor or kernel are not those of the image: then it is tried before it is used.
bool IsOtherMachine(const Facts& made, const Facts& now);

// Of a start's facts: a name for host, boot and who runs it there, 16 hex digits.
std::string HostOf(const Facts& now);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_TRAVEL_H_
