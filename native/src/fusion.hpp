// A network as the runtime executes it: with batch norms folded and activations fused.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kinds.hpp"
#include "secateur/graph.hpp"
#include "storage.hpp"

namespace secateur {

struct Lowering;

// What one step of a program computes.
struct Operation {
    const Lowering* lowering;
    Kind kind;
    std::string name;         // of the first node in it, that with the weights
    std::string fused;        // the operations in it: "conv2d+batch_norm+add+relu"
    std::vector<int> inputs;  // values; a fused residual is the last
    int output = 0;
    Clamp clamp{};
    bool residual = false;
};

// Where a value of one image lies (arranging.hpp).
struct Placing {
    std::optional<Storage> storage;  // none: as make_storage has it
    std::int64_t view =
        -1;  // words into the first input of the operation that makes it, of which it is a view; −1: none
};

struct FusedNetwork {
    std::vector<Shape> shapes;  // of every value, in words (storage.hpp), without the batch
    std::vector<Operation> operations;
    std::vector<int> inputs, outputs;
    std::vector<Element> elements{};  // of every value
    std::vector<Shape> whole{};       // of every value, in elements
    std::vector<Word> fills{};        // of every value: what lies beyond its border for those that read it
    std::vector<Placing> placings{};  // of every value of one image; empty: all as make_storage has them
    // Another value as this one, in a place of its own.
    int add_alike(int value) {
        shapes.push_back(shapes[value]), elements.push_back(elements[value]), whole.push_back(whole[value]),
            fills.push_back(fills[value]);
        if (!placings.empty()) placings.push_back({placings[value].storage});
        return static_cast<int>(shapes.size()) - 1;
    }
    bool views(int value) const { return !placings.empty() && placings[value].view >= 0; }
};

// Throws std::invalid_argument for an operation that the runtime lacks.
FusedNetwork fuse(const Network& network);

}  // namespace secateur
