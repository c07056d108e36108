// Which pages of this process's memory were written to, as Linux knows it from 6.7 on (userfaultfd(2), PAGEMAP_SCAN).
#pragma once

#include "secateur/fingerprint.hpp"

namespace secateur::pages {

inline constexpr std::size_t kPage = 4096;  // larger ones are made of these; where pages are larger, none are marked

// Clear the marks of whole pages. False where that cannot be done: then nothing is known of them.
bool protect(const Stretch& pages);

// Whether all of them are in memory, this process's own, and were not written to since they were protected last.
bool clean(const Stretch& pages);

}  // namespace secateur::pages
