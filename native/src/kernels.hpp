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
// counts: how many non-zeros follow in the streams; with patterns: needed by the first only, the second only, both; of
// four outputs of eight bits: of each, one after the other.
struct Entry {
    std::uint32_t channel;
    std::uint16_t flags;
    std::uint16_t counts[4];
};

inline constexpr std::uint16_t kFirst = 1;  // no earlier block: start from the bias
inline constexpr std::uint16_t kLast = 2;   // no later block: add the residual, clamp, store

// How sums of eight-bit products become what is stored. With t = float(sum) · multipliers[output], plus, where there is a
// residual, float(residual − residual_zero) · residual_scale: bytes: min(max(t, low), high), rounded half to even, plus
// zero; floats: t, plus the residual itself. Every product and sum is rounded to float32, none fused.
struct Requantisation {
    const float* multipliers;  // [output]
    float residual_scale;
    std::int32_t residual_zero, zero;
    float low, high;                  // of a byte, less zero; NaN becomes low
    bool floats;                      // of what is stored: floats, else bytes
    std::int32_t planes = INT32_MAX;  // of floats: those from this one on are left out
    bool bounded;                     // no t is beyond ±2³⁰, so that it may be rounded before it is clamped
};

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
    std::uint32_t valid;            // bit t: vector t is stored; the first one always is
    float low, high;                // clamp: -inf and inf for none
    const BorderMove* moves;        // of folded outputs: which vectors of the tile are also somebody's border
    int move_count;
    const std::int32_t* lanes;  // [pattern][lanes]
    Word fill{0};               // what lies beyond the border: zero, or four zero points
    Requantisation end{};       // of eight bits; low and high above are of floats
};

struct TileVariant {
    int rows, columns;  // vectors; a row is contiguous in the packed tile
    int outputs;        // output channels that an Entry covers
    bool patterns;      // Entry.counts has three patterns (outputs == 2); else every output uses every offset
    bool dense;         // offsets restart with every entry
    void (*run)(const TileRun&);
};

// Of eight bits (Bytes below) a word of the inputs is four consecutive channels, a word of the weights what multiplies
// them, a sum an int32, a bias too. Entries cover 4·n outputs, which one plane of words (n of them) receives: channel is
// the first output, its plane channel / 4 of `output` (and of the residual), or, of floats, planes of their own.
// Streams of those that are not dense: for each of the four outputs its counts[i] weights and offsets, in order. Biases and
// multipliers are there for all outputs of an entry; planes of floats for those of them that end.planes has.

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

struct PixelPack {  // zeros: `fill`
    const Word* source;
    std::ptrdiff_t source_stride, target_stride, step;  // words between channels, channels, pixels
    Word* target;
    const PixelPiece* pieces;
    int piece_count, channels, width;
    Word fill{0};
};

// Planar: a piece of a row, shifted for every column of the kernel. Copy k, at target + k · copy_stride, receives in
// its word x < width source[x · stride + shifts[k]] where that bit of the mask is set, else `fill`.
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
    Word fill{0};
};

// ---- Sparse and dense matrix times vectors ----------------------------------------------------------------------

// One of the vectors that a matrix is multiplied with: as many as there are share the loads of its weights, and each is
// summed as if it were alone.
struct Multiplied {
    const Word* input;     // readable kTable words further where the matrix is sparse
    const Word* residual;  // [rows] or null
    Word* output;          // [rows]; of eight bits, unless they become floats: [rows] bytes, as is the residual
};

// So many vectors at once read weights seldom enough.
inline constexpr int kVectorsTogether = 8;

// Rows in slices of `lanes`; inputs in windows of kTable, each half a window further. A step multiplies one weight per row
// by table[index]: what two windows see is multiplied in either, so that rows wait less for one another.
struct SliceRun {
    const Multiplied* vectors;
    int count;
    const Word* weights;          // [step][lanes]
    const std::uint8_t* indices;  // [step][lanes]
    const std::uint16_t* counts;  // [slice][window]: steps
    int slices, windows;
    const Word* bias;  // [slices * lanes]
    int rows;
    float low, high;
    Requantisation end{};  // of eight bits
};

inline constexpr int kTable = 32, kWindowStep = kTable / 2;

struct DenseVectorRun {
    const Multiplied* vectors;
    int count;
    const Word* weights;  // [slice][input][lanes]
    int slices, length;
    const Word* bias;
    int rows;
    float low, high;
    Requantisation end{};  // of eight bits
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

// target[i] = Σ shares[k] · rows[k][i] over `count` rows.
struct BlendRun {
    const float* const* rows;
    const float* shares;
    int count;
    float* target;
    std::int64_t length;
};

// Of each of `count` new pixels, `images` floats each: target[x] = Σ shares[k · count + x] · source[sources[k · count + x]]
struct ResampleRun {
    const float* source;
    float* target;
    const std::int32_t* sources;
    const float* shares;
    int taps, images;
    std::int64_t count;
};

struct BorderRun {
    Word* planes;
    std::ptrdiff_t stride;  // words from plane to plane
    int count;
    const BorderMove* moves;
    int move_count;
    const std::int32_t* lanes;  // [pattern][lanes]
    Word fill{0};
};

// ---- Products of two values -------------------------------------------------------------------------------------

// target[i][j] = factors[i] · column_factors[j] · Σ left[i][k] · right[k][j], summed one by one. Strides are in floats. Between panels of
// `panel` columns side by side, which may be read to their end, lie `right_column`. Of several images every element is a
// vector of them, and right_column lies between columns.
struct ProductRun {
    const float* left;
    std::ptrdiff_t left_row, left_step;
    const float* right;
    std::ptrdiff_t right_step, right_column;
    float* target;
    std::ptrdiff_t target_row, target_column;  // columns of one image lie side by side
    const float* factors;                      // null: ones; [rows], or [rows][lanes] of images
    int rows, columns, length;
    const float* column_factors = nullptr;  // of one image; null: ones; readable up to whole vectors
};

// Of every row of scores s, or of vectors of images: e^(scale · s + added − the largest), in place, and what makes their sum
// 1, which is nothing where every one is −∞. Rows are read and written up to whole vectors.
struct SoftmaxRun {
    float* scores;
    const float* added;  // as the scores lie, or null
    std::ptrdiff_t row;
    float scale;
    int rows, count;
    float* factors;  // [rows], or [rows][lanes] of images
};

// The same of every column. added: a number for each row and column, for each row (added_column 0), or null. Columns are read
// and written up to whole vectors.
struct ColumnSoftmaxRun {
    float* scores;
    const float* added;
    std::ptrdiff_t row, added_row;
    int added_column;  // 1 or 0
    float scale;
    int rows, columns;
    float* factors;  // [columns]
};

// Of the features of every row: less the mean, over √(variance + epsilon), times weight, plus bias. Features lie side by
// side, or those of consecutive rows do, in planes, which may be read up to whole vectors.
struct NormaliseRun {
    const float* source;
    float* target;
    std::ptrdiff_t row, plane;  // floats between rows, between features, of both: one of them is 1
    std::int64_t rows, features;
    const float *weight, *bias;  // [features], or null
    float epsilon;
};

// A step of a recurrent network: gates of `count` numbers each, side by side, which may be read up to whole vectors.
struct GateRun {
    const float *given, *fed;    // of the step's own input, of what is fed back
    const float *before, *cell;  // states
    float* hidden;               // and behind it, of an LSTM, the cell
    std::int64_t count;
};

enum Cell { kLstm, kGru, kTanh, kRelu, kCells };

// ---- Eight bits -------------------------------------------------------------------------------------------------
//
// All of these give the same bits in every kernel: integers, and floats of which every operation is rounded on its own.

// Four planes of floats and one of words, whose bytes they are, the first the lowest; `count` of each, at any address.
struct
    Quantising {  // byte = min(max(float · inverse, low), high), rounded half to even, plus zero; NaN becomes low + zero
    const float* planes[4];
    Word* words;
    std::int64_t count;
    float inverse, low, high;
    std::int32_t zero;
};

struct Dequantising {  // float = float(byte − zero) · scale; planes that are null are left out
    const Word* words;
    float* planes[4];
    std::int64_t count;
    float scale;
    std::int32_t zero;
};

// The same of one line: number i is byte i.
struct LineQuantising {
    const float* floats;
    std::uint8_t* bytes;
    std::int64_t count;
    float inverse, low, high;
    std::int32_t zero;
};

struct LineDequantising {
    const std::uint8_t* bytes;
    float* floats;
    std::int64_t count;
    float scale;
    std::int32_t zero;
};

// Byte by byte of words. Sums: t = float(a − left_zero) · left_scale + float(b − right_zero) · right_scale; products:
// t = float((a − left_zero)(b − right_zero)) · left_scale. Then as in Quantising. A step of 0: one word for all.
struct BytePairs {
    const Word *left, *right;
    Word* target;
    std::int64_t left_step, right_step, count;  // words
    float left_scale, right_scale, low, high;
    std::int32_t left_zero, right_zero, zero;
};

// PoolRun of words (`source` and `target` point to words; channels are planes of words). Of an average:
// t = float(Σ (byte − input_zero)) · factors[number of pixels that it is divided by], then as in Quantising.
struct BytePool {
    PoolRun pool;
    const float* factors;
    float low, high;
    std::int32_t input_zero, zero;
};

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

struct Bytes {
    // Dot products add two products in 16 bits, which must suffice: of no word of weights w0 … w3 (of two that lie side by
    // side, 0 and 1, 2 and 3) may the positive ones, or the negative ones, times 255 be beyond them. A word that would be
    // is given as two at one offset.
    bool narrow;
    // What a dot product subtracts from every input, so that both sides are signed: 128, or 0. Biases make up for it.
    std::int32_t shift;
    Cycles cycles;  // as those of floats, but of words
    Costs costs;
    const TileVariant* variants;
    int variant_count;
    void (*sparse_vector)(const SliceRun&);
    void (*dense_vector)(const DenseVectorRun&);
    void (*quantise)(const Quantising&);
    void (*dequantise)(const Dequantising&);
    void (*quantise_line)(const LineQuantising&);
    void (*dequantise_line)(const LineDequantising&);
    void (*add)(const BytePairs&);
    void (*multiply)(const BytePairs&);
    void (*pool)(const BytePool&);
};

// ---- What a plan assumes ----------------------------------------------------------------------------------------

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
    void (*blend)(const BlendRun&);
    void (*resample)(const ResampleRun&);
    // output[c] = clamp(source[c] * scale[c] + shift[c]) over `count` floats per channel
    void (*affine)(const float* source, std::ptrdiff_t channel_stride, const float* scale, const float* shift,
                   float low, float high, float* target, std::int64_t channels, std::int64_t count);
    void (*fill_border)(const BorderRun&);
    int tile_rows, panel;  // rows that a product takes at once, columns that it reads side by side
    void (*multiply)(const ProductRun&);
    void (*multiply_images)(const ProductRun&);
    void (*soften)(const SoftmaxRun&);
    void (*soften_images)(const SoftmaxRun&);
    void (*steps[kCells])(const GateRun&);
    void (*soften_columns)(const ColumnSoftmaxRun&);
    void (*normalise_rows)(const NormaliseRun&);
    void (*normalise_planes)(const NormaliseRun&);
    const Bytes* bytes;  // filled in by cpu.cpp
};

// Those compiled in; the processor may lack some.
extern const Kernels kScalarKernels;
extern const Bytes kScalarBytes;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Bytes kAvx2Bytes;
extern const Bytes kAvx2VnniBytes;
extern const Bytes kAvx512Bytes;
extern const Bytes kAvx512VnniBytes;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
extern const Bytes kNeonBytes;
extern const Bytes kNeonDotBytes;
#endif

}  // namespace secateur
