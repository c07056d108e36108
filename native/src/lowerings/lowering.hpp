// The table of lowerings: for each kind of operation how it is read from a network, what it should cost, how it becomes
// steps of a program, and what may be done to it and its values on the way.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "fusion.hpp"
#include "setting.hpp"

namespace secateur {

class Arrangement;
class Compiler;

// Of operations whose values can be folded (storage.hpp).
struct FoldingRules {
    // Whether this one can be, its output being foldable.
    bool (*possible)(const FusedNetwork&, const Operation&, int lanes) = nullptr;
    // Whether a kernel larger than a pixel reads the first input; null: never.
    bool (*sees_border)(const Operation&) = nullptr;
    // Inputs from this one on lie as the output does.
    std::size_t alike = 0;
    // Whether the output is planes of the inputs as they are, so that their borders are its.
    bool planes = false;
    // Of an output that is a view: words into the first input, both being folded.
    std::int64_t (*view)(const Setting&, const Operation&) = nullptr;
};

struct Lowering {
    // None of a node of another kind; null where no node is of this one.
    std::optional<Kind> (*read)(const Node&) = nullptr;
    // Predicted, for one block of images.
    double (*cycles)(const Setting&, const Operation&) = nullptr;
    void (*compile)(Compiler&, const Operation&) = nullptr;
    const FoldingRules* folding = nullptr;  // null: its values cannot be folded
    bool clamps = false;                    // a clamp of the output can be fused into it
    bool fills_border = false;              // of its output, where that is folded
    bool renames = false;                   // where values have no gaps, the output is the input
    bool constant = false;                  // written once, when the arena is made
    // How its values lie where there is one image (arranging.hpp); null: all as make_storage has them.
    void (*arrange)(Arrangement&, Operation&) = nullptr;
};

namespace lowerings {

extern const Lowering convolution, linear, affine, unary, binary, pool, mean, softmax, layer_norm, reshape, permute,
    concat, slice, product, attention, recurrence, cumulation, constant, take, embedding, gather, top, select, resize,
    grid_sample, conversion, quantise, dequantise, byte_pair, byte_pool, byte_mean, byte_table;

}  // namespace lowerings

// A node as an operation of its own; its output is not set. Throws std::invalid_argument where the runtime lacks it.
Operation read_operation(const Node& node);

// The weights of a layer, null for other kinds.
Filter* filter_of(Kind& kind);
const Filter* filter_of(const Kind& kind);

// The number, or the numbers, of an attribute; axes counted from 0 behind the batch.
std::int64_t integer_of(const Node& node, const char* attribute);
const std::vector<std::int64_t>& integers_of(const Node& node, const char* attribute);
std::vector<std::int64_t> axes_of(const Node& node, const char* attribute);
// "weight" and "bias"; zeros where there is no bias.
Filter filter_in(const Node& node);
// The same of a quantised layer, in eight bits; groups: of its channels.
Filter byte_filter_in(const Node& node, std::int64_t groups);
// A number of a node; of bounds of bytes, less the output's zero point.
float number_of(const Node& node, const char* attribute);
std::int32_t zero_of(const Node& node, const char* attribute);
// Null where the node has no weight of that role.
const Array* weight_of(const Node& node, const char* role);

// Of operations that compute every element from those at the same place.
extern const FoldingRules kElementwiseFolding;

}  // namespace secateur
