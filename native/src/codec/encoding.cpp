// Choosing how a weight is predicted, and writing it.
#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <utility>

#include "secateur/codec.hpp"
#include "symbols.hpp"

namespace secateur::codec {

namespace {

// How a reader's time is reckoned, in ns on one core of 2023: what it may take for a weight in all (rounded weights
// are for those to whom size matters more), and what parts take.
constexpr double kPaceOfFloats = 28, kPaceOfLevels = 56;
constexpr double kPlainMask = 4, kPlainValue = 20, kMixedMask = 12, kMoreMixedMask = 2, kSign = 9;
constexpr double kMixedLevel = 38, kMoreMixedLevel = 6, kModelledBit = 4.5;

template <class Kind>
using Values = std::span<const typename Kind::Value>;

template <typename Value>
std::size_t count_nonzero(std::span<const Value> values) {
    return static_cast<std::size_t>(std::count_if(values.begin(), values.end(), [](Value each) { return each != 0; }));
}

// With an Encoder the bytes, with a Meter what they would cost.
template <class Kind, class Coder>
void walk(const Kind& kind, Values<Kind> values, Matrix shape, const Plan& plan, Coder& coder) {
    Model<Coder> model(coder, plan, shape, kind.low_bits(plan));
    std::array<Symbol, kRun> symbols;
    auto value = values.begin();
    for (std::size_t row = 0; row < shape.rows; ++row) {
        model.begin_row();
        for (std::size_t col = 0; col < shape.cols; col += kRun) {
            const std::size_t count = std::min(kRun, shape.cols - col);
            for (std::size_t i = 0; i < count; ++i) symbols[i] = kind.split(*value++, plan);
            model.run(col, count, symbols.data());
        }
    }
}

template <class Kind>
Meter measure(const Kind& kind, Values<Kind> values, Matrix shape, const Plan& plan) {
    Meter meter;
    walk(kind, values, shape, plan, meter);
    return meter;
}

// The distance along a row, from 4 to 128, at which zeros meet zeros and signs meet their like most often.
template <class Kind>
std::size_t find_lag(const Kind& kind, Values<Kind> values, Matrix shape) {
    const std::size_t most = std::min<std::size_t>(128, shape.cols / 3);
    if (most < 4) return 0;
    std::vector<int> row(shape.cols);
    std::vector<double> agreement(most + 1);
    const std::size_t rows = std::min<std::size_t>(shape.rows, 1 + 200'000 / shape.cols);
    for (std::size_t each = 0; each < rows; ++each) {
        const std::size_t from = each * (shape.rows / rows) * shape.cols;
        for (std::size_t col = 0; col < shape.cols; ++col) {
            const Symbol symbol = kind.split(values[from + col], Plan{});
            row[col] = symbol.zero ? 0 : symbol.negative ? -1 : 1;
        }
        for (std::size_t lag = 4; lag <= most; ++lag) {
            int both = 0, alike = 0;
            for (std::size_t col = lag; col < shape.cols; ++col) {
                const int product = row[col] * row[col - lag];
                both += product != 0;
                alike += product;
            }
            agreement[lag] += static_cast<double>(both + alike) / static_cast<double>(shape.cols - lag);
        }
    }
    return static_cast<std::size_t>(std::max_element(agreement.begin() + 4, agreement.end()) - agreement.begin());
}

// A predictor that may be taken: what it saves of the sample in bits, and what a reader pays in nanoseconds a weight.
struct Offer {
    bool* taken;
    int needs;  // another offer, by its place; -1: none
    double saving;
    double price;
};

// Takes those that save the most together, each of them at least `least`, at a price within the purse.
void take(std::span<const Offer> offers, double least, double purse) {
    unsigned best = 0;
    double most = 0;
    for (unsigned chosen = 1; chosen < 1u << offers.size(); ++chosen) {
        double saving = 0, price = 0;
        bool open = true;
        for (std::size_t i = 0; i < offers.size(); ++i) {
            if (!(chosen >> i & 1)) continue;
            const Offer& each = offers[i];
            open = open && each.saving >= least && (each.needs < 0 || chosen >> each.needs & 1);
            saving += each.saving, price += each.price;
        }
        if (open && price <= purse && saving > most) most = saving, best = chosen;
    }
    for (std::size_t i = 0; i < offers.size(); ++i) *offers[i].taken = (best >> i & 1) != 0;
}

template <class Kind>
void choose_predictors(const Kind& kind, Values<Kind> values, Matrix shape, double pace, Plan& plan) {
    const std::size_t rows = std::min<std::size_t>(shape.rows, 1 + 500'000 / std::max<std::size_t>(1, shape.cols));
    const Matrix part{rows, shape.cols};
    const auto sample = values.first(rows * shape.cols);
    const double nonzero = static_cast<double>(count_nonzero(sample));
    const double density = nonzero / static_cast<double>(std::max<std::size_t>(1, sample.size()));
    const int low = kind.low_bits(plan), lows = std::min(low, kMostModelled);

    Plan tried = plan;
    const Meter plain = measure(kind, sample, part, tried);
    tried.mask_near = tried.level_near = tried.sign_near = true;
    tried.modelled = static_cast<std::uint8_t>(lows);
    const Meter near = measure(kind, sample, part, tried);
    tried.mask_column = tried.mask_row = tried.level_row = true;
    const Meter all = measure(kind, sample, part, tried);

    bool low_taken[kMostModelled] = {};
    std::vector<Offer> offers{
        {&plan.mask_near, -1, plain.bits(Part::mask) - near.bits(Part::mask), kMixedMask},
        {&plan.mask_column, 0, near.bits(Part::mask) - all.bits(Part::mask), kMoreMixedMask},
        {&plan.sign_near, -1, nonzero - near.bits(Part::sign), kSign * density},
        {&plan.level_near, -1, plain.bits(Part::level) - near.bits(Part::level), kMixedLevel * density},
        {&plan.level_row, 3, near.bits(Part::level) - all.bits(Part::level), kMoreMixedLevel * density},
    };
    constexpr Part kLows[] = {Part::low0, Part::low1, Part::low2};
    for (int i = 0; i < lows; ++i) {
        offers.push_back({&low_taken[i], i == 0 ? -1 : 4 + i, nonzero - near.bits(kLows[i]), kModelledBit * density});
    }
    const double bits = plain.bits(Part::mask) + plain.bits(Part::level) + nonzero * (low + 1);
    take(offers, bits / 500, pace - kPlainValue * density - (plan.full ? 0 : kPlainMask));
    plan.mask_row = plan.mask_column;
    plan.modelled = static_cast<std::uint8_t>(std::count(low_taken, low_taken + kMostModelled, true));
}

template <class Kind>
std::vector<std::uint8_t> encode(const Kind& kind, Values<Kind> values, Matrix shape, Plan plan, double pace,
                                 std::size_t lag) {
    const std::size_t nonzero = count_nonzero(values);
    plan.full = nonzero == values.size();
    const auto density = static_cast<std::uint64_t>(nonzero) * kOne / std::max<std::size_t>(1, values.size());
    plan.density = static_cast<std::uint16_t>(std::clamp<std::uint64_t>(density, 1, kOne - 1));
    const bool usable = lag > 1 && lag < shape.cols && lag < 65536;
    plan.lag = static_cast<std::uint16_t>(usable ? lag : find_lag(kind, values, shape));
    choose_predictors(kind, values, shape, pace, plan);
    if (!(plan.mask_near || plan.sign_near || plan.level_near)) plan.lag = 0;

    Encoder encoder;
    walk(kind, values, shape, plan, encoder);
    std::vector<std::uint8_t> bytes;
    write_head(plan, bytes);
    const auto decisions = encoder.finish_decisions(), plane = encoder.finish_plane();
    write_length(decisions.size(), bytes);
    bytes.insert(bytes.end(), decisions.begin(), decisions.end());
    bytes.insert(bytes.end(), plane.begin(), plane.end());
    return bytes;
}

std::uint64_t steps_to(std::uint32_t level, std::uint32_t pivot) {
    if (level >= kUnary) return 3 * kUnary;
    if (pivot == 0) return level + 1;
    return level >= pivot ? level - pivot + 2 : pivot - level + (level > 0);
}

// The pivot that reaches levels in the fewest decisions, and how many those are. counts: of each level.
std::pair<std::uint8_t, std::uint64_t> find_pivot(std::span<const std::uint64_t> counts) {
    std::pair<std::uint8_t, std::uint64_t> best{0, std::numeric_limits<std::uint64_t>::max()};
    for (std::uint32_t pivot = 0; pivot < kUnary; ++pivot) {
        std::uint64_t steps = 0;
        for (std::uint32_t level = 0; level < counts.size(); ++level) steps += counts[level] * steps_to(level, pivot);
        if (steps < best.second) best = {static_cast<std::uint8_t>(pivot), steps};
    }
    return best;
}

template <typename Word>
Plan float_plan(std::span<const Word> words, const Floats<Word>& floats) {
    std::vector<std::uint64_t> counts(floats.exponents());
    Word together = static_cast<Word>(1u << floats.layout.mantissa);
    for (const Word word : words) {
        if (word != 0) ++counts[floats.exponent(word)];
        together |= word;
    }
    Plan plan;
    plan.trimmed = static_cast<std::uint8_t>(std::countr_zero(together));
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    for (std::uint32_t base = 0; base < floats.exponents(); ++base) {
        const auto [pivot, steps] = find_pivot(counts);  // of exponents from base on: the counts are rotated
        if (steps < least) least = steps, plan.base = static_cast<std::uint8_t>(base), plan.pivot = pivot;
        std::rotate(counts.begin(), counts.begin() + 1, counts.end());
    }
    return plan;
}

// So many low bits of a level's rank are plain that what is left of it is about 3 on average.
Plan level_plan(std::span<const std::int16_t> levels) {
    std::uint64_t sum = 0, count = 0;
    for (const std::int16_t level : levels) {
        if (level == 0) continue;
        sum += static_cast<std::uint64_t>(std::abs(level));
        ++count;
    }
    Plan plan;
    while (count > 0 && sum / count >> plan.base > 6) ++plan.base;
    std::vector<std::uint64_t> counts(256);
    for (const std::int16_t level : levels) {
        if (level != 0) ++counts[Levels{}.split(level, plan).level & 255];
    }
    plan.pivot = find_pivot(counts).first;
    return plan;
}

}  // namespace

template <typename Word>
std::vector<std::uint8_t> encode_floats(std::span<const Word> words, Matrix shape, FloatLayout layout,
                                        std::size_t lag) {
    const Floats<Word> floats{layout};
    return encode(floats, words, shape, float_plan(words, floats), kPaceOfFloats, lag);
}

std::vector<std::uint8_t> encode_levels(std::span<const std::int16_t> levels, Matrix shape, std::size_t lag) {
    return encode(Levels{}, levels, shape, level_plan(levels), kPaceOfLevels, lag);
}

template std::vector<std::uint8_t> encode_floats(std::span<const std::uint16_t>, Matrix, FloatLayout, std::size_t);
template std::vector<std::uint8_t> encode_floats(std::span<const std::uint32_t>, Matrix, FloatLayout, std::size_t);

}  // namespace secateur::codec
