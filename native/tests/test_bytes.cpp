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
