// Loops of eight bits against plain integers, and floats of which every operation is rounded by itself: the same bits from
// every kernel, whatever its lanes.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "kernels.hpp"
#include "memory.hpp"
#include "secateur/cpu.hpp"

using secateur::Bytes;
using secateur::Entry;
using secateur::Kernels;
using secateur::Requantisation;
using secateur::TileRun;
using secateur::TileVariant;
using secateur::Word;

namespace {

constexpr std::uint32_t kUntouched = 0xa5c3965au;

std::mt19937& random() {
    static std::mt19937 engine(20261129);
    return engine;
}

int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random()); }
bool chance(double share) { return std::bernoulli_distribution(share)(random()); }

std::uint8_t byte_of(Word word, int index) { return static_cast<std::uint8_t>(word.bits >> 8 * index); }

// In double, so that nothing can be fused: twice the digits of a float and more make one rounding.
float product(float a, float b) { return static_cast<float>(static_cast<double>(a) * b); }
float sum(float a, float b) { return static_cast<float>(static_cast<double>(a) + b); }

std::uint8_t to_byte(float value, float low, float high, int zero) {
    const float within = std::isnan(value) ? low : std::min(std::max(value, low), high);
    return static_cast<std::uint8_t>(std::nearbyint(within) + zero);
}

float requantised(std::int32_t total, std::size_t channel, const Requantisation& end) {
    return product(static_cast<float>(total), end.multipliers[channel]);
}

float with_residual(float value, std::uint8_t residual, const Requantisation& end) {
    return sum(value, product(static_cast<float>(residual - end.residual_zero), end.residual_scale));
}

// Bounds of bytes around a zero point: all of a byte, or less.
struct Bounds {
    std::int32_t zero;
    float low, high;
};

Bounds make_bounds() {
    const int zero = chance(0.4) ? 0 : between(0, 255);
    int least = 0, largest = 255;
    if (chance(0.4)) least = between(0, 255), largest = between(least, 255);
    return {zero, static_cast<float>(least - zero), static_cast<float>(largest - zero)};
}

// Numbers that tie, saturate, are tiny or huge.
float awkward_scale() {
    const float scales[] = {0.5f, 0.25f, 0.0078125f, 1.0f, 0.0123f, 3e-5f, 1e-30f, 1.5f, -0.5f};
    return scales[between(0, 8)];
}

Requantisation make_end(bool floats, bool bounded, std::vector<float>& multipliers) {
    Requantisation end{};
    const auto [zero, low, high] = make_bounds();
    for (float& each : multipliers) {
        each = awkward_scale();
        if (!bounded && chance(0.1)) each = chance(0.5) ? 3e38f : std::numeric_limits<float>::quiet_NaN();
    }
    end.multipliers = multipliers.data(), end.residual_scale = awkward_scale(), end.residual_zero = between(0, 255);
    end.zero = zero, end.low = low, end.high = high, end.floats = floats, end.bounded = bounded;
    return end;
}

std::int8_t random_weight(const Bytes& bytes) {
    return static_cast<std::int8_t>(bytes.narrow ? between(-64, 64) : between(-128, 127));
}

Word random_weights(const Bytes& bytes) {
    std::uint32_t bits = 0;
    for (int i = 0; i < 4; ++i)
        bits |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(random_weight(bytes))) << 8 * i;
    return {bits};
}

Word random_word() { return {static_cast<std::uint32_t>(random()())}; }

std::int32_t dot(Word inputs, Word weights) {
    std::int32_t total = 0;
    for (int i = 0; i < 4; ++i) total += byte_of(inputs, i) * static_cast<std::int8_t>(byte_of(weights, i));
    return total;
}

std::int32_t weight_sum(Word weights) { return dot({0x01010101u}, weights); }

bool same_float(float a, float b) {
    return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

// A tile of a variant in several blocks of inputs, and what comes out of it.
class TileTest {
   public:
    TileTest(const Kernels& kernels, const TileVariant& variant, bool floats, bool residual, bool bounded, bool whole)
        : kernels_(kernels), variant_(variant), lanes_(kernels.lanes), vectors_(variant.rows * variant.columns),
          channels_(kGroups * variant.outputs), stride_((vectors_ + 2) * lanes_),
          planes_(floats ? channels_ : channels_ / 4), multipliers_(static_cast<std::size_t>(channels_)),
          end_(make_end(floats, bounded, multipliers_)),
          totals_(static_cast<std::size_t>(channels_ * vectors_ * lanes_)), bias_(static_cast<std::size_t>(channels_)),
          sums_(secateur::make_words(totals_.size())),
          output_(secateur::make_words(static_cast<std::size_t>(planes_ * stride_))),
          residual_(secateur::make_words(static_cast<std::size_t>(planes_ * stride_))) {
        if (floats) end_.planes = channels_ - between(0, 3);
        for (int t = 0; t < vectors_; ++t) places_.push_back((t + 1) * lanes_);
        if (vectors_ > 2) std::swap(places_[1], places_[2]);
        valid_ = vectors_ == 32 ? ~0u : (1u << vectors_) - 1;
        if (!whole) valid_ = (valid_ & random()()) | 1;
        for (std::int64_t i = 0; i < planes_ * stride_; ++i) {
            output_[i] = {kUntouched};
            residual_[i] = floats ? secateur::as_word(static_cast<float>(between(-1000, 1000)) / 7) : random_word();
        }
        for (std::size_t channel = 0; channel < bias_.size(); ++channel) {
            bias_[channel] = between(-3000, 3000);
            std::fill_n(totals_.begin() + static_cast<std::ptrdiff_t>(channel) * vectors_ * lanes_, vectors_ * lanes_,
                        bias_[channel]);
        }
        if (residual) taken_ = residual_.get();
    }

    void run() {
        for (int block = 0; block < kBlocks; ++block) make_block(block);
        for (Block& block : blocks_) {
            TileRun run{};
            run.inputs = block.inputs.get(), run.row_step = variant_.columns * lanes_ + lanes_;
            run.entries = block.entries.data(), run.entry_count = block.entries.size();
            block.weights.resize(block.weights.size() + secateur::kOverread);
            block.offsets.resize(block.offsets.size() + secateur::kOverread);
            run.weights = block.weights.data(), run.offsets = block.offsets.data();
            run.sums = sums_.get(), run.bias = reinterpret_cast<const Word*>(bias_.data());
            run.output = output_.get(), run.residual = taken_, run.channel_stride = stride_;
            run.places = places_.data(), run.valid = valid_;
            run.low = -INFINITY, run.high = INFINITY;
            run.moves = &move_, run.move_count = 1, run.lanes = pattern_.data(), run.fill = {0x07070707u};
            run.end = end_;
            variant_.run(run);
        }
    }

    bool holds() const {
        for (int plane = 0; plane < planes_; ++plane) {
            if (end_.floats && plane >= end_.planes) {
                if (!untouched(plane, 0, stride_)) return false;
                continue;
            }
            for (int t = 0; t < vectors_; ++t) {
                const int place = places_[static_cast<std::size_t>(t)];
                if ((valid_ >> t & 1) == 0) {
                    if (!untouched(plane, place, place + lanes_)) return false;
                    continue;
                }
                for (int lane = 0; lane < lanes_; ++lane)
                    if (!(end_.floats ? float_holds(plane, t, place, lane) : word_holds(plane, t, place, lane)))
                        return false;
            }
            if (!untouched(plane, 0, lanes_) || !border_holds(plane)) return false;
        }
        return true;
    }

   private:
    static constexpr int kGroups = 3, kBlocks = 3, kInputs = 1 << 13;

    struct Block {
        secateur::Words inputs;
        std::vector<Entry> entries;
        std::vector<Word> weights;
        std::vector<std::uint16_t> offsets;
    };

    Word at(const Word* plane, int place) const { return plane[place]; }

    bool untouched(int plane, std::int64_t begin, std::int64_t end) const {
        const Word* words = output_.get() + plane * stride_;
        return std::all_of(words + begin, words + end, [](Word word) { return word.bits == kUntouched; });
    }

    // The last vector of a plane: the first one of the tile, moved on by a lane.
    bool border_holds(int plane) const {
        const Word* words = output_.get() + plane * stride_;
        if (words[move_.target].bits != 0x07070707u) return false;
        for (int lane = 1; lane < lanes_; ++lane)
            if (words[move_.target + lane].bits != words[move_.source + lane - 1].bits) return false;
        return true;
    }

    std::int32_t total(int channel, int t, int lane) const {
        return totals_[static_cast<std::size_t>((channel * vectors_ + t) * lanes_ + lane)];
    }

    bool float_holds(int plane, int t, int place, int lane) const {
        const std::int64_t index = plane * stride_ + place + lane;
        float value = requantised(total(plane, t, lane), static_cast<std::size_t>(plane), end_);
        if (taken_ != nullptr) value = sum(value, std::bit_cast<float>(taken_[index].bits));
        return same_float(value, std::bit_cast<float>(output_[index].bits));
    }

    bool word_holds(int plane, int t, int place, int lane) const {
        const std::int64_t index = plane * stride_ + place + lane;
        for (int m = 0; m < 4; ++m) {
            const int channel = 4 * plane + m;
            float value = requantised(total(channel, t, lane), static_cast<std::size_t>(channel), end_);
            if (taken_ != nullptr) value = with_residual(value, byte_of(taken_[index], m), end_);
            if (byte_of(output_[index], m) != to_byte(value, end_.low, end_.high, end_.zero)) return false;
        }
        return true;
    }

    // Every group in some of the blocks, the first and last of which start and finish it.
    void make_block(int number) {
        Block& block = blocks_.emplace_back();
        block.inputs = secateur::make_words(kInputs + 64 * 64);
        for (int i = 0; i < kInputs + 64 * 64; ++i) block.inputs[i] = random_word();
        bool offsets_made = false;
        for (int group = 0; group < kGroups; ++group) {
            // The first is in all blocks, the second in the last two, the third in one.
            if (number < group) continue;
            Entry entry{};
            entry.channel = static_cast<std::uint32_t>(group * variant_.outputs);
            entry.flags = static_cast<std::uint16_t>((number == group ? secateur::kFirst : 0) |
                                                     (number + 1 == kBlocks ? secateur::kLast : 0));
            if (variant_.dense) add_dense(block, entry, offsets_made);
            else add_sparse(block, entry);
            block.entries.push_back(entry);
            offsets_made = true;
        }
    }

    std::uint16_t random_offset() const {
        return static_cast<std::uint16_t>(between(0, kInputs / lanes_ - 1) * lanes_ / 2);
    }

    void add_sparse(Block& block, Entry& entry) {
        for (int m = 0; m < 4; ++m) {
            entry.counts[m] = static_cast<std::uint16_t>(between(0, 11));
            for (int i = 0; i < entry.counts[m]; ++i) {
                block.weights.push_back(random_weights(*kernels_.bytes));
                block.offsets.push_back(random_offset());
                count(block, static_cast<int>(entry.channel) + m, block.weights.back(), block.offsets.back());
            }
        }
    }

    void add_dense(Block& block, Entry& entry, bool offsets_made) {
        if (!offsets_made)
            for (int i = between(0, 9); i > 0; --i) block.offsets.push_back(random_offset());
        entry.counts[0] = static_cast<std::uint16_t>(block.offsets.size());
        for (std::uint16_t offset : block.offsets)
            for (int m = 0; m < variant_.outputs; ++m) {
                block.weights.push_back(random_weights(*kernels_.bytes));
                count(block, static_cast<int>(entry.channel) + m, block.weights.back(), offset);
            }
    }

    void count(const Block& block, int channel, Word weights, std::uint16_t offset) {
        bias_[static_cast<std::size_t>(channel)] += kernels_.bytes->shift * weight_sum(weights);
        const Word* inputs = block.inputs.get() + 2 * offset;
        for (int r = 0; r < variant_.rows; ++r)
            for (int c = 0; c < variant_.columns; ++c)
                for (int lane = 0; lane < lanes_; ++lane)
                    totals_[static_cast<std::size_t>((channel * vectors_ + r * variant_.columns + c) * lanes_ +
                                                     lane)] +=
                        dot(inputs[r * (variant_.columns * lanes_ + lanes_) + c * lanes_ + lane], weights);
    }

    const Kernels& kernels_;
    const TileVariant& variant_;
    int lanes_, vectors_, channels_;
    std::int64_t stride_;
    int planes_;
    std::vector<float> multipliers_;
    Requantisation end_;
    std::vector<std::int32_t> totals_, bias_;
    secateur::Words sums_, output_, residual_;
    const Word* taken_ = nullptr;
    std::vector<std::int32_t> places_;
    std::uint32_t valid_ = 1;
    std::vector<std::int32_t> pattern_ = [this] {
        std::vector<std::int32_t> lanes;
        for (int lane = 0; lane < lanes_; ++lane) lanes.push_back(lane - 1);
        return lanes;
    }();
    secateur::BorderMove move_{lanes_, (vectors_ + 1) * lanes_, 0};
    std::vector<Block> blocks_;
};

// Words behind which nothing may be written.
secateur::Words make_random(std::int64_t count) {
    secateur::Words words = secateur::make_words(static_cast<std::size_t>(count + secateur::kOverread));
    for (std::int64_t i = 0; i < count + secateur::kOverread; ++i) words[i] = random_word();
    return words;
}

// Floats that tie, saturate or are no numbers.
float awkward_float() {
    if (chance(0.05)) return std::numeric_limits<float>::quiet_NaN();
    if (chance(0.1))
        return (chance(0.5) ? 1.0f : -1.0f) * (chance(0.5) ? std::numeric_limits<float>::infinity() : 1e30f);
    return static_cast<float>(between(-700, 700)) * (chance(0.5) ? 0.5f : 0.37f);
}

// Rows of words to be multiplied with vectors of words, with what is added to each: what either loop may be given.
struct Matrix {
    int rows, length;
    std::vector<Word> weights;  // [row][length], many of them zero
    std::vector<std::int32_t> bias;

    int padded() const { return (length + secateur::kTable - 1) / secateur::kTable * secateur::kTable; }
    std::int32_t total(int row, const Word* inputs) const {
        std::int32_t result = bias[static_cast<std::size_t>(row)];
        for (int i = 0; i < length; ++i) result += dot(inputs[i], weights[static_cast<std::size_t>(row * length + i)]);
        return result;
    }
};

Matrix make_matrix(const Bytes& bytes) {
    Matrix matrix{between(1, 70), between(1, 100), {}, {}};
    for (int i = 0; i < matrix.rows * matrix.length; ++i)
        matrix.weights.push_back(chance(0.6) ? Word{0} : random_weights(bytes));
    for (int row = 0; row < matrix.rows; ++row) matrix.bias.push_back(between(-9000, 9000));
    return matrix;
}

// Biases as loops of bytes are given them, for whole slices.
secateur::Words shifted_bias(const Matrix& matrix, const Bytes& bytes, int slices, int lanes) {
    secateur::Words words = secateur::make_words(static_cast<std::size_t>(slices * lanes));
    for (int row = 0; row < slices * lanes; ++row) words[row] = {0};
    for (int row = 0; row < matrix.rows; ++row) {
        std::int32_t bias = matrix.bias[static_cast<std::size_t>(row)];
        for (int i = 0; i < matrix.length; ++i)
            bias += bytes.shift * weight_sum(matrix.weights[static_cast<std::size_t>(row * matrix.length + i)]);
        words[row] = {static_cast<std::uint32_t>(bias)};
    }
    return words;
}

// What a vector product gave, [rows] floats or bytes and nothing behind them.
bool vector_holds(const Matrix& matrix, const Requantisation& end, const secateur::Multiplied& vector) {
    const auto& [input, residual, output] = vector;
    const std::uint8_t* added = reinterpret_cast<const std::uint8_t*>(residual);
    const std::uint8_t* bytes = reinterpret_cast<const std::uint8_t*>(output);
    for (int row = 0; row < matrix.rows; ++row) {
        float value = requantised(matrix.total(row, input), static_cast<std::size_t>(row), end);
        if (end.floats) {
            if (residual != nullptr) value = sum(value, std::bit_cast<float>(residual[row].bits));
            if (!same_float(value, std::bit_cast<float>(output[row].bits))) return false;
            continue;
        }
        if (residual != nullptr) value = with_residual(value, added[row], end);
        if (bytes[row] != to_byte(value, end.low, end.high, end.zero)) return false;
    }
    const int written = matrix.rows * (end.floats ? 4 : 1);
    return std::all_of(bytes + written, bytes + written + 16, [](std::uint8_t byte) { return byte == 0xa5; });
}

// Some vectors, and where their products go.
class Vectors {
   public:
    Vectors(const Matrix& matrix, int count, bool floats, bool adds) : size_(matrix.rows + 4) {
        for (int i = 0; i < count; ++i) {
            const Word* input = kept_.emplace_back(make_random(matrix.padded())).get();
            Word* residual = kept_.emplace_back(make_random(matrix.rows)).get();
            for (int row = 0; floats && row < matrix.rows; ++row) residual[row] = secateur::as_word(awkward_float());
            vectors_.push_back({input, adds ? residual : nullptr, kept_.emplace_back(make_random(size_)).get()});
        }
    }

    int count() const { return static_cast<int>(vectors_.size()); }
    const secateur::Multiplied* data() {
        for (const auto& each : vectors_)
            std::memset(each.output, 0xa5, static_cast<std::size_t>(size_) * sizeof(Word));
        return vectors_.data();
    }
    bool hold(const Matrix& matrix, const Requantisation& end) const {
        return std::all_of(vectors_.begin(), vectors_.end(),
                           [&](const auto& each) { return vector_holds(matrix, end, each); });
    }

   private:
    int size_;
    std::vector<secateur::Words> kept_;
    std::vector<secateur::Multiplied> vectors_;
};

void check_vectors(const Kernels& kernels, bool floats, bool adds) {
    const Bytes& bytes = *kernels.bytes;
    const int lanes = kernels.lanes;
    const Matrix matrix = make_matrix(bytes);
    const int slices = (matrix.rows + lanes - 1) / lanes,
              windows = (matrix.length + secateur::kWindowStep - 1) / secateur::kWindowStep;
    std::vector<float> multipliers(static_cast<std::size_t>(matrix.rows));
    const Requantisation end = make_end(floats, false, multipliers);
    const secateur::Words bias = shifted_bias(matrix, bytes, slices, lanes);
    Vectors vectors(matrix, between(1, 10), floats, adds);

    const auto weight = [&](int row, int column) {
        const bool is = row < matrix.rows && column < matrix.length;
        return is ? matrix.weights[static_cast<std::size_t>(row * matrix.length + column)] : Word{0};
    };
    secateur::Words dense = make_random(slices * matrix.length * lanes);
    for (int slice = 0; slice < slices; ++slice)
        for (int i = 0; i < matrix.length; ++i)
            for (int lane = 0; lane < lanes; ++lane)
                dense[(slice * matrix.length + i) * lanes + lane] = weight(slice * lanes + lane, i);
    bytes.dense_vector(
        {vectors.data(), vectors.count(), dense.get(), slices, matrix.length, bias.get(), matrix.rows, 0, 0, end});
    CHECK(vectors.hold(matrix, end));

    std::vector<Word> steps;
    std::vector<std::uint8_t> indices;
    std::vector<std::uint16_t> counts;
    const int each = chance(0.5) ? 1 : 2;  // windows that have weights: with two, all that they see
    for (int slice = 0; slice < slices; ++slice)
        for (int window = 0; window < windows; ++window) {
            std::vector<std::vector<int>> columns(static_cast<std::size_t>(lanes));
            std::size_t most = 0;
            for (int lane = 0; lane < lanes; ++lane) {
                for (int i = 0; window % each == 0 && i < each * secateur::kWindowStep; ++i)
                    if (weight(slice * lanes + lane, window * secateur::kWindowStep + i).bits != 0)
                        columns[static_cast<std::size_t>(lane)].push_back(i);
                most = std::max(most, columns[static_cast<std::size_t>(lane)].size());
            }
            counts.push_back(static_cast<std::uint16_t>(most));
            for (std::size_t step = 0; step < most; ++step)
                for (int lane = 0; lane < lanes; ++lane) {
                    const auto& own = columns[static_cast<std::size_t>(lane)];
                    const int column = step < own.size() ? own[step] : 0;
                    indices.push_back(static_cast<std::uint8_t>(column));
                    steps.push_back(step < own.size()
                                        ? weight(slice * lanes + lane, window * secateur::kWindowStep + column)
                                        : Word{0});
                }
        }
    secateur::Words sparse = make_random(static_cast<std::int64_t>(steps.size()));
    std::copy(steps.begin(), steps.end(), sparse.get());
    indices.resize(indices.size() + secateur::kOverread);
    bytes.sparse_vector({vectors.data(), vectors.count(), sparse.get(), indices.data(), counts.data(), slices, windows,
                         bias.get(), matrix.rows, 0, 0, end});
    CHECK(vectors.hold(matrix, end));
}

// Bytes of a pair, computed on their own.
std::uint8_t paired(const secateur::BytePairs& run, bool adds, std::uint8_t left, std::uint8_t right) {
    const int a = left - run.left_zero, b = right - run.right_zero;
    const float value =
        adds ? sum(product(static_cast<float>(a), run.left_scale), product(static_cast<float>(b), run.right_scale))
             : product(static_cast<float>(a * b), run.left_scale);
    return to_byte(value, run.low, run.high, run.zero);
}

// One output byte of a pool by its definition, in integers.
std::uint8_t pooled(const secateur::BytePool& pool, const Word* plane, int y, int x, int image, int byte) {
    const secateur::PoolRun& run = pool.pool;
    int largest = 0, total = 0, inside = 0, counted = 0;
    for (int i = 0; i < run.kernel_y; ++i)
        for (int j = 0; j < run.kernel_x; ++j) {
            const int iy = y * run.stride_y - run.top + i * run.dilation_y,
                      ix = x * run.stride_x - run.left + j * run.dilation_x;
            counted += iy < run.height + run.bottom && ix < run.width + run.right;
            if (iy < 0 || iy >= run.height || ix < 0 || ix >= run.width) continue;
            const int value = byte_of(plane[iy * run.source_row + ix * run.source_column + image], byte);
            largest = std::max(largest, value), total += value - pool.input_zero, ++inside;
        }
    if (!run.average) return static_cast<std::uint8_t>(largest);
    const float factor = pool.factors[run.count_padding ? counted : inside];
    return to_byte(product(static_cast<float>(total), factor), pool.low, pool.high, pool.zero);
}

void check_pool(const Kernels& kernels, bool average, int images) {
    const int kernel = between(1, 4), stride = between(1, 3), dilation = average ? 1 : between(1, 2),
              padding = between(0, kernel / 2), channels = 3, height = between(6, 12), width = between(6, 40),
              reach = (kernel - 1) * dilation + 1, pitch = width + between(0, 3);
    const int out_height = (height + 2 * padding - reach) / stride + 1,
              out_width = (width + 2 * padding - reach) / stride + 1, out_pitch = out_width + between(0, 3);
    if (out_height < 1 || out_width < 1) return;
    const std::int64_t plane = (height * pitch * images + 15) / 16 * 16,
                       out_plane = (out_height * out_pitch * images + 15) / 16 * 16;
    const secateur::Words source = make_random(channels * plane);
    const secateur::Words target = make_random(channels * out_plane);
    std::vector<float> factors;
    for (int i = 0; i <= kernel * kernel; ++i) factors.push_back(0.9f / static_cast<float>(std::max(i, 1)));
    const auto [zero, low, high] = make_bounds();
    secateur::BytePool run{};
    run.pool = {secateur::as_floats(source.get()),
                secateur::as_floats(target.get()),
                plane,
                pitch * images,
                images,
                out_plane,
                out_pitch * images,
                images,
                channels,
                height,
                width,
                out_height,
                out_width,
                kernel,
                kernel,
                stride,
                stride,
                padding,
                padding,
                padding,
                padding,
                dilation,
                dilation,
                average,
                chance(0.5),
                images};
    run.factors = factors.data(), run.low = low, run.high = high, run.input_zero = between(0, 255), run.zero = zero;
    kernels.bytes->pool(run);
    bool same = true;
    for (int c = 0; c < channels; ++c)
        for (int y = 0; y < out_height; ++y)
            for (int x = 0; x < out_width; ++x)
                for (int image = 0; image < images; ++image)
                    for (int byte = 0; byte < 4; ++byte)
                        same = same && byte_of(target[c * out_plane + (y * out_pitch + x) * images + image], byte) ==
                                           pooled(run, source.get() + c * plane, y, x, image, byte);
    CHECK(same);
}

}  // namespace

TEST(tiles_of_bytes_are_plain_integers) {
    for (const auto* kernels : secateur::runnable_kernels())
        for (int v = 0; v < kernels->bytes->variant_count; ++v)
            for (int kind = 0; kind < 16; ++kind) {
                TileTest test(*kernels, kernels->bytes->variants[v], (kind & 3) == 3, kind & 4, kind & 1, kind & 8);
                test.run();
                if (!test.holds())
                    std::fprintf(stderr, "%s: %d outputs, %d×%d%s, kind %d\n", kernels->name,
                                 kernels->bytes->variants[v].outputs, kernels->bytes->variants[v].rows,
                                 kernels->bytes->variants[v].columns,
                                 kernels->bytes->variants[v].dense ? ", dense" : "", kind);
                CHECK(test.holds());
            }
}

TEST(every_dense_tile_of_bytes_has_a_sparse_one_for_the_outputs_that_are_left_over) {
    for (const auto* kernels : secateur::runnable_kernels()) {
        const auto has = [&](int rows, int columns) {
            return std::any_of(kernels->bytes->variants, kernels->bytes->variants + kernels->bytes->variant_count,
                               [&](const TileVariant& variant) {
                                   return !variant.dense && variant.outputs == 4 && variant.rows == rows &&
                                          variant.columns == columns;
                               });
        };
        for (int v = 0; v < kernels->bytes->variant_count; ++v)
            CHECK(has(kernels->bytes->variants[v].rows, kernels->bytes->variants[v].columns));
        CHECK(has(1, 1) && has(1, 4) && has(1, 8));
    }
}

TEST(vectors_of_bytes_are_plain_integers) {
    for (const auto* kernels : secateur::runnable_kernels())
        for (int round = 0; round < 40; ++round) check_vectors(*kernels, (round & 1) != 0, (round & 2) != 0);
}

TEST(floats_become_bytes_half_to_even_and_bytes_floats) {
    for (const auto* kernels : secateur::runnable_kernels())
        for (std::int64_t count : {1, 3, 16, 37}) {
            std::vector<float> planes[4];
            std::vector<float> line;
            for (auto& plane : planes)
                for (std::int64_t i = 0; i < count; ++i) plane.push_back(awkward_float());
            for (std::int64_t i = 0; i < count; ++i)
                for (const auto& plane : planes) line.push_back(plane[static_cast<std::size_t>(i)]);
            const auto [zero, low, high] = make_bounds();
            const float inverse = chance(0.5) ? 1.0f : 0.71f;
            std::vector<Word> words(static_cast<std::size_t>(count + 1), Word{kUntouched});
            std::vector<std::uint8_t> bytes(static_cast<std::size_t>(4 * count + 1), 0xa5);
            kernels->bytes->quantise({{planes[0].data(), planes[1].data(), planes[2].data(), planes[3].data()},
                                      words.data(),
                                      count,
                                      inverse,
                                      low,
                                      high,
                                      zero});
            kernels->bytes->quantise_line({line.data(), bytes.data(), 4 * count, inverse, low, high, zero});
            bool same = words.back().bits == kUntouched && bytes.back() == 0xa5;
            for (std::size_t i = 0; i < line.size(); ++i) {
                const std::uint8_t right = to_byte(product(line[i], inverse), low, high, zero);
                same = same && byte_of(words[i / 4], static_cast<int>(i % 4)) == right && bytes[i] == right;
            }
            CHECK(same);

            std::vector<float> back[4], back_line(line.size());
            for (auto& plane : back) plane.assign(static_cast<std::size_t>(count), 0.0f);
            kernels->bytes->dequantise(
                {words.data(), {back[0].data(), nullptr, back[2].data(), back[3].data()}, count, 0.37f, zero});
            kernels->bytes->dequantise_line({bytes.data(), back_line.data(), 4 * count, 0.37f, zero});
            same = true;
            for (std::size_t i = 0; i < line.size(); ++i) {
                const float right = product(static_cast<float>(bytes[i] - zero), 0.37f);
                same = same && back_line[i] == right;
                same = same && back[i % 4][i / 4] == (i % 4 == 1 ? 0.0f : right);
            }
            CHECK(same);
        }
}

TEST(sums_and_products_of_bytes_are_plain_integers) {
    for (const auto* kernels : secateur::runnable_kernels())
        for (int round = 0; round < 32; ++round) {
            const std::int64_t count = between(1, 70);
            const bool adds = (round & 1) != 0;
            const secateur::Words left = make_random(count), right = make_random(count);
            std::vector<Word> target(static_cast<std::size_t>(count + 1), Word{kUntouched});
            const auto [zero, low, high] = make_bounds();
            const secateur::BytePairs run{
                left.get(),      right.get(), target.data(), round >> 1 & 1,  round >> 2 & 1,  count, awkward_scale(),
                awkward_scale(), low,         high,          between(0, 255), between(0, 255), zero};
            (adds ? kernels->bytes->add : kernels->bytes->multiply)(run);
            bool same = target.back().bits == kUntouched;
            for (std::int64_t i = 0; i < count; ++i)
                for (int byte = 0; byte < 4; ++byte)
                    same = same && byte_of(target[static_cast<std::size_t>(i)], byte) ==
                                       paired(run, adds, byte_of(left[i * run.left_step], byte),
                                              byte_of(right[i * run.right_step], byte));
            CHECK(same);
        }
}

TEST(pools_of_bytes_are_plain_integers) {
    for (const auto* kernels : secateur::runnable_kernels())
        for (int round = 0; round < 60; ++round)
            check_pool(*kernels, (round & 1) != 0, round % 3 == 0 ? 2 * kernels->lanes : 1);
}

TEST(what_lies_beyond_a_border_is_what_the_caller_says) {
    constexpr Word kFill{0x80808080u};
    for (const auto* kernels : secateur::runnable_kernels()) {
        const secateur::Words source = make_random(256);
        for (int stride : {1, 2, 3})
            for (int width : {8, 16}) {
                secateur::Words target = make_random(64);
                const std::uint64_t mask = 0x5bd6f7be9d3efull & ((std::uint64_t{1} << ((width - 1) * stride + 3)) - 1);
                const std::int32_t shifts[] = {0, 1, 2};
                const secateur::RowPiece piece{3, 0, mask, width};
                kernels->pack_rows({source.get(), 128, 48, 16, target.get(), &piece, shifts, 1, 1, 3, stride, kFill});
                bool same = true;
                for (int copy = 0; copy < 3; ++copy)
                    for (int x = 0; x < width; ++x) {
                        const int at = x * stride + copy;
                        same =
                            same && target[copy * 16 + x].bits == ((mask >> at & 1) != 0 ? source[3 + at] : kFill).bits;
                    }
                CHECK(same);
            }
        secateur::Words target = make_random(64);
        const secateur::PixelPiece nothing{secateur::kZeros, 0, 2};
        kernels->pack_pixels({source.get(), 128, 48, 16, target.get(), &nothing, 1, 1, 16, kFill});
        CHECK(std::all_of(target.get(), target.get() + 32, [&](Word word) { return word.bits == kFill.bits; }));
        const std::vector<std::int32_t> lanes(static_cast<std::size_t>(kernels->lanes), -1);
        const secateur::BorderMove move{0, 16, 0};
        kernels->fill_border({target.get(), 32, 1, &move, 1, lanes.data(), {0x01020304u}});
        CHECK(std::all_of(target.get() + 16, target.get() + 16 + kernels->lanes,
                          [](Word word) { return word.bits == 0x01020304u; }));
    }
}
