// A step in pieces for several threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace secateur {

// Into how many `size` words are split.
inline std::int64_t pieces_of(std::int64_t size) { return std::clamp<std::int64_t>(size / 4096, 1, 64); }

// Where a piece of them begins: on cache lines.
inline std::int64_t edge_of(std::int64_t size, std::int64_t piece, std::int64_t all) {
    return piece == all ? size : size * piece / all / 16 * 16;
}

}  // namespace secateur
