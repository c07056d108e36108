// A network as the runtime executes it: with batch norms folded and activations fused.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "secateur/graph.hpp"

namespace secateur {

struct Clamp {
    float low = -std::numeric_limits<float>::infinity();
    float high = std::numeric_limits<float>::infinity();
};

enum class Kind {
    kConvolution, kLinear, kAffine, kUnary, kBinary, kPool, kMean, kSoftmax, kLayerNorm, kReshape, kPermute, kConcat,
    kSlice, kConstant, kFold, kUnfold
};

// What one step of a program computes.
struct Operation {
    Kind kind;
    std::string name;         // of the first node in it, that with the weights
    std::string fused;        // the operations in it: "conv2d+batch_norm+add+relu"
    std::vector<int> inputs;  // values; a fused residual is the last
    int output = 0;
    Clamp clamp;
    bool residual = false;

    Array weight;                    // convolution, linear, constant
    std::vector<float> scale, bias;  // per output channel; scale may be empty (ones)
    std::vector<std::int64_t> stride, padding, dilation, kernel;
    std::int64_t groups = 1;
    bool average = false, count_padding = false;

    Unary unary{};
    Binary binary{};
    float slope = 0;
    double epsilon = 0;
    std::vector<std::int64_t> axes;  // counted from 0 behind the batch
    std::int64_t start = 0;
    Array norm_weight, norm_bias;
};

struct FusedNetwork {
    std::vector<Shape> shapes;  // of every value, without the batch
    std::vector<Operation> operations;
    std::vector<int> inputs, outputs;
};

// Throws std::invalid_argument for an operation that the runtime lacks.
FusedNetwork fuse(const Network& network);

}  // namespace secateur
