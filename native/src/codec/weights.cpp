#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <limits>
#include <utility>

#include "secateur/codec.hpp"
#include "walk.hpp"

namespace secateur::codec {

namespace {

// ---- symbols of the two kinds of tensor ----

template <typename Word>
struct Floats {
    using Value = Word;
    FloatLayout layout;

    int low_bits(const Plan& plan) const { return layout.mantissa - plan.trimmed; }
    std::uint32_t exponents() const { return 1u << layout.exponent; }
    std::uint32_t exponent(Word word) const { return word >> layout.mantissa & (exponents() - 1); }

    Symbol split(Word word, const Plan& plan) const {
        const std::uint32_t away = exponent(word) - plan.base;
        return {word == 0, word >> (layout.mantissa + layout.exponent) != 0, away & (exponents() - 1),
                (word & ((1u << layout.mantissa) - 1)) >> plan.trimmed};
    }

    Word join(const Symbol& symbol, const Plan& plan) const {
        const std::uint32_t exponent = (plan.base + symbol.level) & (exponents() - 1);
        const std::uint32_t sign = symbol.negative ? 1u << layout.exponent : 0;
        return static_cast<Word>((sign | exponent) << layout.mantissa | symbol.low << plan.trimmed);
    }
};

struct Levels {
    using Value = std::int16_t;

    int low_bits(const Plan& plan) const { return plan.base; }

    Symbol split(std::int16_t level, const Plan& plan) const {
        if (level == 0) return {true, false, 0, 0};
        const auto rank = static_cast<std::uint32_t>(std::abs(level)) - 1;
        return {false, level < 0, rank >> plan.base, rank & ((1u << plan.base) - 1)};
    }
};

// ---- the bytes before the streams ----

constexpr std::size_t kHead = 8;

void write_head(const Plan& plan, std::vector<std::uint8_t>& bytes) {
    const bool flags[] = {plan.mask_column, plan.mask_row,   plan.mask_near, plan.full,
                          plan.sign_near,   plan.level_near, plan.level_row};
    int first = 0;
    for (int i = 0; i < 7; ++i) first |= flags[i] << i;
    for (int byte : {first, int{plan.base}, plan.pivot << 2 | plan.modelled, int{plan.trimmed}, plan.lag & 255, plan.lag >> 8, plan.density & 255,
                     plan.density >> 8}) {
        bytes.push_back(static_cast<std::uint8_t>(byte));
    }
}

std::string_view read_head(std::span<const std::uint8_t> bytes, std::size_t cols, Plan& plan) {
    if (bytes.size() < kHead + 1) return "too short for a coded weight";
    const auto flag = [&](int i) { return (bytes[0] >> i & 1) != 0; };
    plan.mask_column = flag(0), plan.mask_row = flag(1), plan.mask_near = flag(2), plan.full = flag(3);
    plan.sign_near = flag(4), plan.level_near = flag(5), plan.level_row = flag(6);
    plan.base = bytes[1];
    plan.modelled = bytes[2] & 3;
    plan.pivot = bytes[2] >> 2;
    plan.trimmed = bytes[3];
    plan.lag = static_cast<std::uint16_t>(bytes[4] | bytes[5] << 8);
    plan.density = static_cast<std::uint16_t>(bytes[6] | bytes[7] << 8);
    if (flag(7)) return "a flag that this version does not know";
    if (plan.pivot >= kUnary) return "a pivot beyond the levels";
    if (plan.density == 0) return "a density of 0";
    if (plan.lag == 1 || plan.lag > cols) return "a lag of 1, or longer than a row";
    return {};
}

void write_length(std::size_t length, std::vector<std::uint8_t>& bytes) {
    for (; length >= 128; length >>= 7) bytes.push_back(static_cast<std::uint8_t>(length | 128));
    bytes.push_back(static_cast<std::uint8_t>(length));
}

// LEB128; moves `bytes` behind it. False where it does not end, or is longer than what follows.
bool read_length(std::span<const std::uint8_t>& bytes, std::size_t& length) {
    length = 0;
    for (int shift = 0; shift < 63 && !bytes.empty(); shift += 7) {
        const std::uint8_t byte = bytes.front();
        bytes = bytes.subspan(1);
        length |= static_cast<std::size_t>(byte & 127) << shift;
        if (byte < 128) return length <= bytes.size();
    }
    return false;
}

// ---- choosing a plan ----

// With an Encoder the bytes, with a Meter what they would cost.
template <class Kind, class Coder>
void walk(const Kind& kind, std::span<const typename Kind::Value> values, Matrix shape, const Plan& plan, Coder& coder) {
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
Meter measure(const Kind& kind, std::span<const typename Kind::Value> values, Matrix shape, const Plan& plan) {
    Meter meter;
    walk(kind, values, shape, plan, meter);
    return meter;
}

// The distance along a row, from 4 to 128, at which zeros meet zeros and signs meet their like most often.
template <class Kind>
std::size_t find_lag(const Kind& kind, std::span<const typename Kind::Value> values, Matrix shape) {
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

// How a reader's time is reckoned, in ns on one core of 2023: what it may take for a weight in all, and what parts take.
constexpr double kPace = 28, kPlainMask = 4, kPlainValue = 20, kMixedMask = 12, kMoreMixedMask = 2, kSign = 9;
constexpr double kMixedLevel = 38, kMoreMixedLevel = 6, kModelledBit = 4.5;

template <class Kind>
void choose_predictors(const Kind& kind, std::span<const typename Kind::Value> values, Matrix shape, Plan& plan) {
    const std::size_t rows = std::min<std::size_t>(shape.rows, 1 + 500'000 / std::max<std::size_t>(1, shape.cols));
    const Matrix part{rows, shape.cols};
    const auto sample = values.first(rows * shape.cols);
    const double nonzero = static_cast<double>(std::count_if(sample.begin(), sample.end(), [](auto each) { return each != 0; }));
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
    take(offers, bits / 500, kPace - kPlainValue * density - (plan.full ? 0 : kPlainMask));
    plan.mask_row = plan.mask_column;
    plan.modelled = static_cast<std::uint8_t>(std::count(low_taken, low_taken + kMostModelled, true));
}

template <class Kind>
std::vector<std::uint8_t> encode(const Kind& kind, std::span<const typename Kind::Value> values, Matrix shape, Plan plan,
                                 std::size_t lag) {
    std::size_t nonzero = 0;
    for (const auto value : values) nonzero += value != 0;
    plan.full = nonzero == values.size();
    const auto density = static_cast<std::uint64_t>(nonzero) * kOne / std::max<std::size_t>(1, values.size());
    plan.density = static_cast<std::uint16_t>(std::clamp<std::uint64_t>(density, 1, kOne - 1));
    plan.lag = static_cast<std::uint16_t>(lag > 1 && lag < shape.cols && lag < 65536 ? lag : find_lag(kind, values, shape));
    choose_predictors(kind, values, shape, plan);
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

// ---- reading ----

template <typename Word, class Put>
std::string_view decode(std::span<const std::uint8_t> bytes, Matrix shape, const Plan& plan, int low_bits,
                        std::span<Word> words, Put put) {
    auto rest = bytes.subspan(kHead);
    std::size_t length = 0;
    if (!read_length(rest, length)) return "a stream longer than its weight";
    Decoder decoder(rest.first(length), rest.subspan(length));
    Model<Decoder> model(decoder, plan, shape, low_bits);
    std::array<Symbol, kRun> symbols;
    symbols.fill({});
    std::fill(words.begin(), words.end(), Word{0});
    for (std::size_t row = 0; row < shape.rows; ++row) {
        model.begin_row();
        for (std::size_t col = 0; col < shape.cols; col += kRun) {
            Word* const here = words.data() + row * shape.cols + col;
            for (const std::uint16_t place : model.run(col, std::min(kRun, shape.cols - col), symbols.data())) {
                if (!put(here[place], symbols[place])) return "a level beyond the codebook";
            }
        }
    }
    return decoder.ended() ? std::string_view{} : "streams do not end with the weight";
}

bool fits(Matrix shape, std::size_t count) {
    return shape.cols == 0 ? count == 0 : count / shape.cols == shape.rows && count % shape.cols == 0;
}

}  // namespace

template <typename Word>
std::vector<std::uint8_t> encode_floats(std::span<const Word> words, Matrix shape, FloatLayout layout, std::size_t lag) {
    const Floats<Word> floats{layout};
    return encode(floats, words, shape, float_plan(words, floats), lag);
}

std::vector<std::uint8_t> encode_levels(std::span<const std::int16_t> levels, Matrix shape, std::size_t lag) {
    return encode(Levels{}, levels, shape, level_plan(levels), lag);
}

template <typename Word>
std::string_view decode_floats(std::span<const std::uint8_t> bytes, Matrix shape, FloatLayout layout,
                               std::span<Word> words) {
    if (!fits(shape, words.size())) return "another number of weights than its shape has";
    Plan plan;
    if (const auto wrong = read_head(bytes, shape.cols, plan); !wrong.empty()) return wrong;
    if (plan.trimmed > layout.mantissa) return "more trimmed bits than a mantissa has";
    const Floats<Word> floats{layout};
    return decode(bytes, shape, plan, floats.low_bits(plan), words, [&](Word& word, const Symbol& symbol) {
        word = floats.join(symbol, plan);
        return true;
    });
}

template <typename Word>
std::string_view decode_levels(std::span<const std::uint8_t> bytes, Matrix shape, const Codebook<Word>& codebook,
                               std::span<Word> words) {
    if (!fits(shape, words.size())) return "another number of weights than its shape has";
    const auto& [book, positive, negative] = codebook;
    if (positive > book.size() || book.size() - positive != negative) return "another number of words than codes";
    Plan plan;
    if (const auto wrong = read_head(bytes, shape.cols, plan); !wrong.empty()) return wrong;
    if (plan.base > 8 || plan.trimmed > 0) return "levels of more than 8 plain bits";
    return decode(bytes, shape, plan, plan.base, words, [&](Word& word, const Symbol& symbol) {
        const std::size_t rank = std::size_t{symbol.level} << plan.base | symbol.low;
        if (rank >= (symbol.negative ? codebook.negative : codebook.positive)) return false;
        word = codebook.words[(symbol.negative ? codebook.positive : 0) + rank];
        return true;
    });
}

template std::vector<std::uint8_t> encode_floats(std::span<const std::uint16_t>, Matrix, FloatLayout, std::size_t);
template std::vector<std::uint8_t> encode_floats(std::span<const std::uint32_t>, Matrix, FloatLayout, std::size_t);
template std::string_view decode_floats(std::span<const std::uint8_t>, Matrix, FloatLayout, std::span<std::uint16_t>);
template std::string_view decode_floats(std::span<const std::uint8_t>, Matrix, FloatLayout, std::span<std::uint32_t>);
template std::string_view decode_levels(std::span<const std::uint8_t>, Matrix, const Codebook<std::uint16_t>&,
                                        std::span<std::uint16_t>);
template std::string_view decode_levels(std::span<const std::uint8_t>, Matrix, const Codebook<std::uint32_t>&,
                                        std::span<std::uint32_t>);

}  // namespace secateur::codec
