// Lays buffers into one arena: those that live at the same time side by side, the others over one another.
#pragma once

#include <cstdint>
#include <vector>

namespace secateur {

struct Buffer {
    std::int64_t size = 0;      // words
    int first = -1, last = -1;  // steps; first < 0: not used
    std::int64_t place = 0;
};

// Places every buffer; returns the arena's size in words.
std::int64_t lay_out(std::vector<Buffer>& buffers);

}  // namespace secateur
