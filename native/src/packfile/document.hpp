// What a .secateur file says besides weights: the graph, how each weight is stored, and facts about the network.
#pragma once

#include "bytes.hpp"
#include "graph.hpp"

namespace secateur::packfile {

struct Document {
    Metadata metadata;
    Graph graph;
};

// Throws FormatError for anything that the writer could not have written, but does not check the graph itself.
Document read_document(Bytes squeezed);

}  // namespace secateur::packfile
