// What the steps of a program compute: a small struct for each kind of operation. How each is read, predicted and
// compiled is said by its lowering (lowerings/lowering.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <variant>
#include <vector>

#include "kernels.hpp"
#include "secateur/graph.hpp"

namespace secateur {

struct Clamp {
    float low = -std::numeric_limits<float>::infinity();
    float high = std::numeric_limits<float>::infinity();
};

// The weights of a layer, outputs first; scale and bias: per output, scale may be empty (ones).
struct Filter {
    Array weight;
    std::vector<float> scale, bias;

    std::int64_t outputs() const { return weight.shape[0]; }
};

// Axes are counted from 0 behind the batch.
namespace kind {

struct Convolution {
    Filter filter;
    std::vector<std::int64_t> stride, padding, dilation;
    std::int64_t groups;
};

struct Linear {
    Filter filter;
};

struct Affine {  // per channel
    std::vector<float> scale, shift;
};

struct Unary {
    int function;  // of Kernels::unaries
    std::array<double, kParameters> parameters;
};

struct Binary {
    int function;  // of Kernels::binaries
};

struct Pool {
    std::vector<std::int64_t> kernel, stride, padding, dilation;
    bool average, count_padding;
};

struct Mean {
    std::vector<std::int64_t> axes;  // none: the windows of an adaptive pooling
};

struct Softmax {
    std::int64_t axis;
};

struct LayerNorm {
    std::int64_t axes;  // how many, the last
    double epsilon;
    Array weight, bias;  // either may be missing
};

struct Reshape {};

struct Permute {
    std::vector<std::int64_t> axes;
};

struct Concat {
    std::int64_t axis;
};

struct Slice {
    std::int64_t axis, start;
};

struct Constant {
    Array values;
};

struct Conversion {};  // between folded values and others (storage.hpp)

}  // namespace kind

using Kind = std::variant<kind::Convolution, kind::Linear, kind::Affine, kind::Unary, kind::Binary, kind::Pool,
                          kind::Mean, kind::Softmax, kind::LayerNorm, kind::Reshape, kind::Permute, kind::Concat,
                          kind::Slice, kind::Constant, kind::Conversion>;

}  // namespace secateur
