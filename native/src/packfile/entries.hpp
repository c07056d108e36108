// A graph as the core takes it: whole numbers and truth values as floats, numbers of eight bits without a sign, factors
// worked out.
#pragma once

#include <deque>
#include <vector>

#include "reading.hpp"
#include "secateur/graph.hpp"

namespace secateur::packfile {

// A network, and the arrays that it points to.
struct Entries {
    Network network;
    std::deque<std::vector<float>> floats;
    std::deque<std::vector<std::int32_t>> integers;
};

// Of a graph without free lengths, and none that mixes images. The weights are kept by the caller. Throws Unsupported for
// values that the core has not.
Entries entries_of(const Graph& graph, const Checked& checked, const Weights& weights);

// What constants that nothing is made of come to, as float32.
std::vector<float> constant_of(const Node& node, const Weights& weights);

}  // namespace secateur::packfile
