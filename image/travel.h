#ifndef PYLAUNCH_IMAGE_TRAVEL_H_
#define PYLAUNCH_IMAGE_TRAVEL_H_

#include <string>
#include <string_view>

#include "image/facts.h"

// Which of an image's facts another host, or another boot of this one, may have otherwise. What a
// restored process depends on is a fact with an order: a processor that has all that the image's
// had will do. What only proves that files are the same (the boot, stamps of the engine) says
// nothing elsewhere, where files are proved by their content (adoption.h).

namespace pylaunch::image {

// True for the name of such a fact.
bool IsOfHost(std::string_view name);

// `facts` without these: what must be equal everywhere.
Facts WithoutHost(const Facts& facts);

// Why what ran where `made` was so cannot run where `now` is so, in words as Difference's; an empty
// string: it can. Looks at facts of a host alone.
std::string WhyNotHere(const Facts& made, const Facts& now);

// Of facts that are of a host: a name for that host and boot, 16 hex digits.
std::string HostOf(const Facts& now);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_TRAVEL_H_
