// Whether memory is what it was, whoever wrote to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "secateur/fingerprint.hpp"

namespace secateur {

// What some memory holds when this is made, as a fingerprint. Where the system marks pages that are written to, only
// the rims of large stretches are read again as long as their whole pages are not marked; elsewhere all of it is.
// What a device writes by itself into memory that is pinned for it leaves no mark: give such memory as `unmarked`.
class Watch {
   public:
    Watch(std::vector<Stretch> stretches, const std::vector<Stretch>& unmarked);

    // Whether anything differs from what it was in the beginning, or ever did when this was asked. By several threads
    // at once; not while the memory is being written to.
    bool changed();

    // Bytes in pages that the system marks.
    std::size_t marked() const;

   private:
    bool pages_are_clean() const;
    void protect_pages();

    std::vector<Stretch> all_, pages_, rims_;
    std::uint64_t fingerprint_, rim_fingerprint_, generation_;
    bool changed_ = false;
};

}  // namespace secateur
