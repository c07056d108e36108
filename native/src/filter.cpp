#include "filter.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace secateur {
namespace {

using Four = std::array<std::int8_t, 4>;

Four bytes_of(Word word) { return std::bit_cast<Four>(word.bits); }
Word word_of(const Four& bytes) { return {std::bit_cast<std::uint32_t>(bytes)}; }

// How many groups are to be one, so that channels and outputs of it fill words.
std::int64_t groups_in_one(std::int64_t groups, std::int64_t channels, std::int64_t outputs) {
    for (std::int64_t together : {1, 2, 4})
        if (groups % together == 0 && together * channels % 4 == 0 && together * outputs % 4 == 0) return together;
    return groups;
}

// The sums that are possible, times the largest multiplier and with the residual, are far from what 32 bits hold.
bool stays_small(const ByteWeights& made, const std::vector<double>& largest) {
    constexpr double kMost = 1 << 30;
    for (std::size_t o = 0; o < largest.size(); ++o)
        if (!(largest[o] * std::fabs(made.multipliers[o]) < kMost / 2)) return false;
    return std::fabs(made.end.residual_scale) * 255.0 < kMost / 2;
}

}  // namespace

std::shared_ptr<const ByteWeights> make_byte_weights(const Array& weight, const Array* bias, const Array& multipliers,
                                                     std::int64_t groups, std::int32_t input_zero, Requantisation end) {
    auto made = std::make_shared<ByteWeights>();
    const std::int64_t outputs = weight.shape[0], channels = weight.shape[1];
    made->taps = taps_of(weight.shape);
    const std::int64_t per_group = outputs / groups, together = groups_in_one(groups, channels, per_group);
    made->groups = groups / together;
    made->channels = (together * channels + 3) / 4;
    made->outputs = (outputs + 3) / 4 * 4;
    made->input_zero = input_zero, made->end = end;
    const auto begin_of = [&](std::int64_t output) { return output / per_group % together * channels; };
    made->span = 0;
    for (std::int64_t o = 0; o < made->outputs; ++o) {
        const std::int64_t begin = o < outputs ? begin_of(o) : 0;
        made->first.push_back(begin / 4);
        if (o < outputs && channels > 0) made->span = std::max(made->span, (begin + channels - 1) / 4 - begin / 4 + 1);
    }
    // Every output has as many words; the last ones may not reach beyond the group.
    for (std::int64_t& first : made->first) first = std::min(first, made->channels - made->span);
    made->words.assign(static_cast<std::size_t>(made->outputs * made->span * made->taps), Word{0});
    made->bias.assign(static_cast<std::size_t>(made->outputs), 0);
    made->totals.assign(static_cast<std::size_t>(made->outputs * made->taps), 0);
    made->multipliers.assign(static_cast<std::size_t>(made->outputs), 0.0f);
    std::vector<double> largest(static_cast<std::size_t>(outputs), 0.0);
    for (std::int64_t o = 0; o < outputs; ++o) {
        const std::int64_t begin = begin_of(o) - 4 * made->first[o];
        double magnitude = 0;
        for (std::int64_t c = 0; c < channels; ++c)
            for (std::int64_t tap = 0; tap < made->taps; ++tap) {
                const std::int8_t value = weight.bytes[(o * channels + c) * made->taps + tap];
                if (value == 0) continue;
                Word& word =
                    made->words[static_cast<std::size_t>((o * made->span + (begin + c) / 4) * made->taps + tap)];
                Four four = bytes_of(word);
                four[(begin + c) % 4] = value;
                word = word_of(four);
                ++made->nonzeros, made->totals[o * made->taps + tap] += value, magnitude += std::abs(value);
            }
        const std::int32_t given = bias == nullptr ? 0 : bias->integers[o];
        made->bias[o] = given;
        made->multipliers[o] = multipliers.data[o];
        largest[o] = magnitude * 255 + std::fabs(static_cast<double>(given));
    }
    made->end.bounded = stays_small(*made, largest);
    return made;
}

std::int64_t taps_of(const Shape& weight) {
    std::int64_t taps = 1;
    for (std::size_t axis = 2; axis < weight.size(); ++axis) taps *= weight[axis];
    return taps;
}

std::int64_t Filter::nonzeros() const {
    if (bytes) return bytes->nonzeros;
    const std::int64_t all = elements(weight.shape);
    return all - std::count(weight.data, weight.data + all, 0.0f);
}

std::int64_t Filter::nonzero_words() const {
    if (!bytes) return nonzeros();
    return std::count_if(bytes->words.begin(), bytes->words.end(), [](Word word) { return word.bits != 0; });
}

std::vector<Word> Filter::biases(const Kernels& kernels, const std::vector<bool>& used) const {
    std::vector<Word> all;
    if (!bytes) {
        for (float each : bias) all.push_back(as_word(each));
        return all;
    }
    const std::int64_t zero = bytes->input_zero - kernels.bytes->shift;  // as the products see it
    for (std::int64_t o = 0; o < bytes->outputs; ++o) {
        std::int64_t sum = bytes->bias[o];
        for (std::int64_t tap = 0; tap < taps; ++tap)
            if (used[static_cast<std::size_t>(tap)]) sum -= zero * bytes->totals[o * taps + tap];
        all.push_back({static_cast<std::uint32_t>(sum)});
    }
    return all;
}

bool is_wide(Word weights) {
    const Four w = bytes_of(weights);
    for (const int at : {0, 2}) {
        const int above = std::max<int>(0, w[at]) + std::max<int>(0, w[at + 1]);
        const int below = std::min<int>(0, w[at]) + std::min<int>(0, w[at + 1]);
        if (255 * above > 32767 || 255 * below < -32768) return true;
    }
    return false;
}

bool has_wide(const ByteWeights& weights) { return std::any_of(weights.words.begin(), weights.words.end(), is_wide); }

Word even_half(Word weights) {
    const Four w = bytes_of(weights);
    return word_of({w[0], 0, w[2], 0});
}

Word odd_half(Word weights) {
    const Four w = bytes_of(weights);
    return word_of({0, w[1], 0, w[3]});
}

}  // namespace secateur
