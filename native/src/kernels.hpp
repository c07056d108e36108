// What every instruction set provides, as one table of functions. The plan (convolution.hpp) decides what to call.
//
// Plain structs only: this header is compiled into every instruction set's own translation unit, so nothing in it may
// become code (kernels/check.cmake).
#pragma once

#include <cstddef>
#include <cstdint>

#include "secateur/costs.hpp"
#include "word.hpp"

namespace secateur {

// How many words behind the inputs, weights and scratch that they are given kernels may read, though not write.
inline constexpr int kOverread = 64;

// ---- Convolution: one tile of output pixels at a time -----------------------------------------------------------
//
// A tile is T = rows × columns vectors of accumulators. The inputs that it reads are first packed into a small
// buffer where every tap of the kernel, for every vector of a row, is one contiguous run. A non-zero weight is then
// (offset of its run, value), and the inner loop is: broadcast the value, multiply-add T vectors found at the offset.

// The border of folded planes (storage.hpp): target[lane] = source[lanes[pattern][lane]], zero where that is negative.
struct BorderMove {
    std::int32_t source, target, pattern;
};

// What one block of input channels adds to `outputs` output channels that share their input loads.
// counts: how many non-zeros follow in the streams; with patterns: needed by the first only, the second only, both.
struct Entry {
    std::uint32_t channel;
    std::uint16_t flags;
    std::uint16_t counts[3];
};

inline constexpr std::uint16_t kFirst = 1;  // no earlier block: start from the bias
inline constexpr std::uint16_t kLast = 2;   // no later block: add the residual, clamp, store

struct TileRun {
    const Word* inputs;       // packed tile
    std::ptrdiff_t row_step;  // words between two rows of a run
    const Entry* entries;
    std::size_t entry_count;
    const Word* weights;            // in the order of use
    const std::uint16_t* offsets;   // in the order of use, in units of two words
    Word* sums;                     // [channel][T vectors]: accumulators between blocks
    const Word* bias;               // [channel]
    Word* output;                   // the tile's place in channel 0
    const Word* residual;           // same place, or null
    std::ptrdiff_t channel_stride;  // of output and residual, in words
    const std::int32_t* places;     // [T]: where each vector goes, from output on
    std::uint32_t valid;            // bit t: vector t is stored
    float low, high;                // clamp: -inf and inf for none
    const BorderMove* moves;        // of folded outputs: which vectors of the tile are also somebody's border
    int move_count;
    const std::int32_t* lanes;  // [pattern][lanes]
};

struct TileVariant {
    int rows, columns;  // vectors; a row is contiguous in the packed tile
    int outputs;        // output channels that an Entry covers
    bool patterns;      // Entry.counts has three patterns (outputs == 2); else every output uses every offset
    bool dense;         // offsets restart with every entry
    void (*run)(const TileRun&);
};

// ---- Winograd's transform ---------------------------------------------------------------------------------------

// Of a tile: outputs × outputs pixels of every output channel, from (outputs + 2)² pixels of every input channel. Its
// frequencies, as many, are products of their own: weights [output][channel] times inputs [channel].
struct WinogradInputs {
    const float* source;                  // the tile's first pixel of channel 0, which may lie in the padding
    std::ptrdiff_t channel, row, column;  // floats
    int top, bottom, left, right;         // rows [top, bottom) and columns [left, right) lie within the image
    int channels;
    float* target;
    std::ptrdiff_t target_channel, frequency;  // floats
};

struct WinogradProducts {  // of one frequency
    const float* inputs;   // [channel][columns vectors]
    const float* weights;  // [group][channel][outputs]
    float* products;       // [group][outputs][columns vectors]
    int channels, groups;
};

struct WinogradOutputs {
    const float* products;
    std::ptrdiff_t product, frequency;  // floats between the products of two outputs, of two frequencies
    const float* bias;
    const float* residual;  // the tile's first pixel, or null
    float* output;
    std::ptrdiff_t channel, row, column;
    int rows, columns;  // of the tile that lie within the image
    int outputs;
    float low, high;
    const BorderMove* moves;  // of folded outputs: which vectors of the tile are also somebody's border
    int move_count;
    const std::int32_t* lanes;  // [pattern][lanes]
};

struct WinogradTransform {
    int outputs;  // of a tile, along each side
    void (*transform_inputs)(const WinogradInputs&);
    void (*transform_outputs)(const WinogradOutputs&);
};

struct WinogradProduct {
    int outputs, columns;  // of a group; vectors
    void (*multiply)(const WinogradProducts&);
};

// ---- Packing ----------------------------------------------------------------------------------------------------

// Image-interleaved: `pixels` runs of `width` words, `step` words apart in the source, or zeros.
inline constexpr std::int32_t kZeros = INT32_MIN;

struct PixelPiece {
    std::int32_t source, target, pixels;
};

struct PixelPack {
    const Word* source;
    std::ptrdiff_t source_stride, target_stride, step;  // words between channels, channels, pixels
    Word* target;
    const PixelPiece* pieces;
    int piece_count, channels, width;
};

// Planar: a piece of a row, shifted for every column of the kernel. Copy k, at target + k · copy_stride, receives in
// its word x < width source[x · stride + shifts[k]] where that bit of the mask is set, else 0.
struct RowPiece {
    std::int32_t source, target;
    std::uint64_t mask;
    std::int32_t width;  // 16 at most
};

struct RowPack {
    const Word* source;
    std::ptrdiff_t source_stride, target_stride, copy_stride;  // words between channels, channels, copies
    Word* target;
    const RowPiece* pieces;
    const std::int32_t* shifts;
    int piece_count, channels, copies, stride;
};

// ---- Sparse and dense matrix times vector -----------------------------------------------------------------------

// Rows in slices of `lanes`; inputs in blocks of kTable. A step multiplies one weight per row by table[index].
struct SliceRun {
    const Word* inputs;           // padded to a multiple of kTable with zeros
    const Word* weights;          // [step][lanes]
    const std::uint8_t* indices;  // [step][lanes]
    const std::uint16_t* counts;  // [slice][block]: steps
    int slices, blocks;
    const Word* bias;      // [slices * lanes]
    const Word* residual;  // [rows] or null
    Word* output;          // [rows]
    int rows;
    float low, high;
};

inline constexpr int kTable = 32;

struct DenseVectorRun {
    const Word* inputs;
    const Word* weights;  // [slice][input][lanes]
    int slices, length;
    const Word* bias;
    const Word* residual;
    Word* output;
    int rows;
    float low, high;
};

// ---- Everything else --------------------------------------------------------------------------------------------

// Functions of one element (kernels/elementwise.hpp).
inline constexpr int kParameters = 2;

struct UnaryFunction {
    const char* name;  // of the operation, behind it what its attributes that are texts say: "gelu tanh"
    const char* parameters[kParameters];  // the attributes that are its parameters, as far as they are not fixed
    double fixed[kParameters];
    bool clamps;  // to what lies between its parameters
    void (*run)(const double* parameters, const float* source, float* target, std::int64_t count);
};

// Of two elements each, clamped; the step of an operand is 0 where it is one element for all, else 1.
struct BinaryRun {
    const float *left, *right;
    float* target;
    std::int64_t left_step, right_step, count;
    float low, high;
};

struct BinaryFunction {
    const char* name;
    bool adds;  // so that a layer before it can
    void (*run)(const BinaryRun&);
};

struct PoolRun {
    const float* source;
    float* target;
    std::int64_t source_channel, source_row, source_column, target_channel, target_row, target_column;
    int channels, height, width, out_height, out_width;
    int kernel_y, kernel_x, stride_y, stride_x, top, bottom, left, right, dilation_y, dilation_x;
    bool average, count_padding;
    int images;
};

struct BorderRun {
    Word* planes;
    std::ptrdiff_t stride;  // words from plane to plane
    int count;
    const BorderMove* moves;
    int move_count;
    const std::int32_t* lanes;  // [pattern][lanes]
};

// ---- What a plan assumes ----------------------------------------------------------------------------------------

// Cycles of an instruction set, fitted once (those of AVX-512 and AVX2 on Zen 4).
struct Cycles {
    double multiply_add;   // of a vector
    double shifted_row;    // packing (planar): of each shifted copy of a piece of a row
    double strided_row;    // the same where columns are strided
    double sparse_step;    // of a product with a vector: of `lanes` non-zeros
    double dense_step;     // the same of `lanes` weights
    double sparse_weight;  // of a product with a vector that is only thought of: per non-zero
    double dense_weight;   // the same per weight
};

struct Kernels {
    const char* name;
    int lanes;
    Cycles cycles;
    Costs costs;  // built in
    const TileVariant* variants;
    int variant_count;
    const WinogradTransform* transforms;
    int transform_count;
    const WinogradProduct* products;
    int product_count;
    void (*pack_pixels)(const PixelPack&);
    void (*pack_rows)(const RowPack&);
    void (*sparse_vector)(const SliceRun&);
    void (*dense_vector)(const DenseVectorRun&);
    // target[j * target_row + i] = source[i * source_row + j] for i < rows, j < columns
    void (*transpose)(const Word* source, std::ptrdiff_t source_row, Word* target, std::ptrdiff_t target_row,
                      std::int64_t rows, std::int64_t columns);
    // The same in every kernel, in the same order.
    const UnaryFunction* unaries;
    int unary_count;
    const BinaryFunction* binaries;
    int binary_count;
    void (*pool)(const PoolRun&);
    // output[c] = clamp(source[c] * scale[c] + shift[c]) over `count` floats per channel
    void (*affine)(const float* source, std::ptrdiff_t channel_stride, const float* scale, const float* shift,
                   float low, float high, float* target, std::int64_t channels, std::int64_t count);
    void (*fill_border)(const BorderRun&);
};

// Those compiled in; the processor may lack some.
extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
#endif

}  // namespace secateur
