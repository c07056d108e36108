// Which pixels a resized axis is made of, and how much each counts: network/operations/sampling.py.
#pragma once

#include <cstdint>
#include <vector>

#include "graph.hpp"

namespace secateur::packfile {

// (count, size of the new axis) each.
struct Taps {
    std::int64_t count;
    std::vector<std::int32_t> sources;
    std::vector<float> shares;
};

// place: which of the node's sizes it is. old: pixels along it.
Taps taps_of(const Node& resize, std::size_t place, std::int64_t old);

}  // namespace secateur::packfile
