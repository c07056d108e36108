// File → graph and weights; nothing is allocated before the file has shown that it may ask for it.
#pragma once

#include "document.hpp"
#include "weights.hpp"

namespace secateur::packfile {

struct File {
    Metadata metadata;
    Graph graph;
    Checked checked;
    Weights weights;
};

// Every bit checked. Throws FormatError for a file that is damaged, of another version, or asks for too much.
File read(Source source, const Limits& limits);

}  // namespace secateur::packfile
