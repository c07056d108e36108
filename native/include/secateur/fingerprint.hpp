// A fingerprint of memory: whether bytes are what they were, without a copy of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace secateur {

// Bytes of somebody else's, which stay where they are as long as they are looked at.
struct Stretch {
    const std::byte* begin;
    std::size_t bytes;
};

// 64 bits over all bytes of all stretches, in order, at about the pace of memory. Every step can be undone, so that a
// change within any eight bytes in line always gives another fingerprint, whatever the change; several at once keep it
// by chance, one in 2^64.
std::uint64_t fingerprint(std::span<const Stretch> stretches);

}  // namespace secateur
