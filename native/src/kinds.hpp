// What the steps of a program compute: a small struct for each kind of operation. How each is read, predicted and
// compiled is said by its lowering (lowerings/lowering.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <variant>
#include <vector>

#include "filter.hpp"
#include "kernels.hpp"
#include "secateur/graph.hpp"

namespace secateur {

struct Clamp {
    float low = -std::numeric_limits<float>::infinity();
    float high = std::numeric_limits<float>::infinity();
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

// What becomes of several numbers.
enum class Reduction { kMean, kSum, kProduct, kLargest, kSmallest };

struct Mean {
    std::vector<std::int64_t> axes;  // none: the windows of an adaptive pooling
    Reduction reduction = Reduction::kMean;
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

struct Product {  // of two values
    bool transposed;
};

struct Attention {
    float scale;
    bool causal, boolean;  // of the mask
};

struct Recurrence {
    Filter filter;  // from the states to what is fed back
    Cell cell;
    bool reverse;
};

struct Cumulation {
    std::int64_t axis;
};

struct Constant {
    Array values;
};

struct Take {
    std::int64_t axis;
    Array indices;
};

struct Embedding {
    Array table;  // (V, D)
};

struct Gather {
    std::int64_t axis;
};

struct Top {
    std::int64_t axis;
    bool largest;
};

struct Select {};  // of three operands the second where the first is not 0, else the third

struct Resize {
    struct Axis {
        Array sources, shares;  // (taps, size): which pixels each new one is made of, and how much they count
    };
    std::vector<Axis> axes;  // the last
};

struct GridSample {
    enum class Padding { kZeros, kBorder, kReflection };
    bool nearest, aligned;
    Padding padding;
};

struct Conversion {};  // between folded values and others (storage.hpp)

// Eight bits: a byte stands for (byte − zero) · scale.

struct Quantise {
    float inverse, low, high;
    std::int32_t zero;
};

struct Dequantise {
    float scale;
    std::int32_t zero;
};

struct BytePair {
    bool product;
    float left_scale, right_scale, low, high;
    std::int32_t left_zero, right_zero, zero;
};

// Of Pool and Mean in bytes: what becomes of a sum of them.
struct ByteAverage {
    double input_scale, output_scale;
    float low, high;
    std::int32_t input_zero, zero;
};

struct BytePool {
    Pool pool;
    ByteAverage average;
};

struct ByteMean {
    std::vector<std::int64_t> axes;  // none: the windows of an adaptive pooling
    ByteAverage average;
};

struct ByteTable {
    std::array<std::uint8_t, 256> bytes;  // what becomes of each
};

}  // namespace kind

using Kind =
    std::variant<kind::Convolution, kind::Linear, kind::Affine, kind::Unary, kind::Binary, kind::Pool, kind::Mean,
                 kind::Softmax, kind::LayerNorm, kind::Reshape, kind::Permute, kind::Concat, kind::Slice, kind::Product,
                 kind::Attention, kind::Recurrence, kind::Cumulation, kind::Constant, kind::Take, kind::Embedding,
                 kind::Gather, kind::Top, kind::Select, kind::Resize, kind::GridSample, kind::Conversion,
                 kind::Quantise, kind::Dequantise, kind::BytePair, kind::BytePool, kind::ByteMean, kind::ByteTable>;

}  // namespace secateur
