#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <utility>

#include "convolution_builder.hpp"

namespace secateur {

// The non-zeros of one output in input channels [begin, end) of the network, relative to the block's first channel.
std::vector<Convolution::Builder::Taken> Convolution::Builder::take(const Geometry& g,
                                                                    const std::vector<bool>& taps_used,
                                                                    std::int64_t output, std::int64_t begin,
                                                                    std::int64_t end, std::int64_t origin,
                                                                    bool zeros) const {
    const ConvolutionShape& s = problem_.shape;
    const std::int64_t per_group = s.channels / s.groups, group = output / (s.outputs / s.groups);
    const std::int64_t first = group * per_group + filter_.first(output);
    std::vector<std::pair<std::int64_t, std::int64_t>> seen;  // taps, and where they begin
    for (std::int64_t tap = 0; tap < s.kernel_y * s.kernel_x; ++tap)
        if (g.taps[tap] >= 0 && taps_used[tap]) seen.emplace_back(tap, g.taps[tap]);
    std::vector<Taken> taken;
    const auto add = [&](std::int64_t offset, Word weight) {
        taken.push_back({static_cast<std::uint16_t>(offset / 2), weight});
    };
    const std::int64_t low = std::max(begin, zeros ? group * per_group : first),
                       high = std::min(end, zeros ? (group + 1) * per_group : first + filter_.span());
    if (zeros && high > low) taken.reserve(static_cast<std::size_t>(high - low) * seen.size() * (halves_ ? 2 : 1));
    for (std::int64_t c = low; c < high; ++c) {
        const bool within = c >= first && c < first + filter_.span();
        for (const auto& [tap, begin_of_tap] : seen) {
            const bool zero = !within || filter_.zero(output, c - first, tap);
            if (zero && !zeros) continue;
            const std::int64_t offset = (c - origin) * g.channel_words + begin_of_tap;
            const Word weight = zero ? Word{0} : filter_.word(output, c - first, tap);
            if (zeros ? halves_ : narrow_ && is_wide(weight))
                add(offset, even_half(weight)), add(offset, odd_half(weight));
            else add(offset, weight);
        }
    }
    return taken;
}

Convolution::Builder::Group Convolution::Builder::single_group(const Geometry& g, const std::vector<bool>& used,
                                                               std::int64_t output, std::int64_t begin,
                                                               std::int64_t end) const {
    Group group;
    group.entry.channel = static_cast<std::uint32_t>(output);
    for (const Taken& each : take(g, used, output, begin, end, begin, false))
        group.weights.push_back(each.weight), group.offsets.push_back(each.offset);
    group.entry.counts[0] = static_cast<std::uint16_t>(group.weights.size());
    return group;
}

// Four outputs of eight bits, which one plane of words receives.
Convolution::Builder::Group Convolution::Builder::four_group(const Geometry& g, const std::vector<bool>& used,
                                                             std::int64_t output, std::int64_t begin,
                                                             std::int64_t end) const {
    Group group;
    group.entry.channel = static_cast<std::uint32_t>(output);
    for (int i = 0; i < 4; ++i) {
        const auto taken = take(g, used, output + i, begin, end, begin, false);
        for (const Taken& each : taken) group.weights.push_back(each.weight), group.offsets.push_back(each.offset);
        group.entry.counts[i] = static_cast<std::uint16_t>(taken.size());
    }
    return group;
}

Convolution::Builder::Group Convolution::Builder::paired_group(const Geometry& g, const std::vector<bool>& used,
                                                               std::int64_t output, std::int64_t begin,
                                                               std::int64_t end) const {
    Group group;
    group.entry.channel = static_cast<std::uint32_t>(output);
    const auto one = take(g, used, output, begin, end, begin, true),
               two = take(g, used, output + 1, begin, end, begin, true);
    for (int pattern = 0; pattern < 3; ++pattern)
        for (std::size_t i = 0; i < one.size(); ++i) {
            const bool first = one[i].weight.bits != 0, second = two[i].weight.bits != 0;
            if (first != (pattern != 1) || second != (pattern != 0)) continue;
            ++group.entry.counts[pattern];
            group.offsets.push_back(one[i].offset);
            if (first) group.weights.push_back(one[i].weight);
            if (second) group.weights.push_back(two[i].weight);
        }
    return group;
}

Convolution::Builder::Group Convolution::Builder::dense_group(const Geometry& g, const std::vector<bool>& used,
                                                              std::int64_t output, std::int64_t begin, std::int64_t end,
                                                              int outputs) const {
    Group group;
    group.entry.channel = static_cast<std::uint32_t>(output);
    std::vector<std::vector<Taken>> rows;
    for (int m = 0; m < outputs; ++m) rows.push_back(take(g, used, output + m, begin, end, begin, true));
    for (std::size_t i = 0; i < rows[0].size(); ++i) {
        for (int m = 0; m < outputs; ++m) group.weights.push_back(rows[m][i].weight);
        group.offsets.push_back(rows[0][i].offset);
    }
    group.entry.counts[0] = static_cast<std::uint16_t>(rows[0].size());
    return group;
}

Convolution::Builder::Group Convolution::Builder::make_group(const Geometry& g, const std::vector<bool>& used,
                                                             const TileVariant& variant, std::int64_t output,
                                                             std::int64_t begin, std::int64_t end) const {
    if (variant.dense) return dense_group(g, used, output, begin, end, variant.outputs);
    if (variant.patterns) return paired_group(g, used, output, begin, end);
    return variant.outputs == 4 ? four_group(g, used, output, begin, end) : single_group(g, used, output, begin, end);
}

// Groups of one block, those with the same flags and counts together so that loop exits predict.
void Convolution::Builder::append(Convolution& target, std::vector<Group>& groups, bool dense) {
    std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
        return std::tuple(a.entry.flags, std::to_array(a.entry.counts)) <
               std::tuple(b.entry.flags, std::to_array(b.entry.counts));
    });
    bool offsets_written = false;
    for (const Group& group : groups) {
        target.entries_.made().push_back(group.entry);
        target.weights_.made().insert(target.weights_.made().end(), group.weights.begin(), group.weights.end());
        if (dense && offsets_written) continue;
        target.offsets_.made().insert(target.offsets_.made().end(), group.offsets.begin(), group.offsets.end());
        offsets_written = true;
    }
}

void Convolution::Builder::make_streams(Convolution& target, const Geometry& g, const Choice& choice) const {
    const ConvolutionShape& s = problem_.shape;
    const std::int64_t per_group = s.channels / s.groups, outputs_per_group = s.outputs / s.groups;
    const TileVariant& variant = *choice.variant;
    target.nonzeros_ = counts_.nonzero;
    std::int64_t most = 0;
    for (const std::vector<bool>& used : g.classes)
        for (int part = 0; part < target.parts_; ++part) {
            const std::int64_t units = s.outputs / variant.outputs;
            const std::int64_t out_begin = units * part / target.parts_ * variant.outputs;
            const std::int64_t out_end =
                part + 1 == target.parts_ ? s.outputs : units * (part + 1) / target.parts_ * variant.outputs;
            std::vector<Pending> blocks;
            if (choice.block >= per_group) {  // whole groups at a time
                const std::int64_t groups =
                    per_group == 0 ? s.groups : std::max<std::int64_t>(1, choice.block / per_group);
                for (std::int64_t first = 0; first < s.groups; first += groups) {
                    const std::int64_t end = std::min(s.groups, first + groups);
                    blocks.push_back(pending(g, used, variant, *target.single_, first * per_group, end * per_group,
                                             std::max(out_begin, first * outputs_per_group),
                                             std::min(out_end, end * outputs_per_group)));
                }
            } else {
                for (std::int64_t group = 0; group < s.groups; ++group)
                    for (std::int64_t c = 0; c < per_group; c += choice.block)
                        blocks.push_back(pending(g, used, variant, *target.single_, group * per_group + c,
                                                 group * per_group + std::min(per_group, c + choice.block),
                                                 std::max(out_begin, group * outputs_per_group),
                                                 std::min(out_end, (group + 1) * outputs_per_group)));
            }
            settle(blocks, &Pending::shared), settle(blocks, &Pending::single);
            target.blocks_.emplace_back();
            for (Pending& each : blocks) {
                if (each.shared.empty() && each.single.empty()) continue;
                Block block{each.begin,
                            each.end - each.begin,
                            target.entries_.size(),
                            each.shared.size(),
                            each.single.size(),
                            target.weights_.size(),
                            target.offsets_.size(),
                            0,
                            0};
                append(target, each.shared, variant.dense);
                block.single_weight = target.weights_.size(), block.single_offset = target.offsets_.size();
                append(target, each.single, false);
                most = std::max(most, block.channels);
                target.blocks_.back().push_back(block);
            }
        }
    const std::int64_t vectors = variant.rows * variant.columns;
    target.packed_words_ = static_cast<std::size_t>(round_up(most * g.channel_words, 16) + 16);
    target.scratch_ = target.packed_words_ + static_cast<std::size_t>(s.outputs * vectors * lanes());
}

Convolution::Builder::Pending Convolution::Builder::pending(const Geometry& g, const std::vector<bool>& used,
                                                            const TileVariant& variant, const TileVariant& single,
                                                            std::int64_t begin, std::int64_t end,
                                                            std::int64_t out_begin, std::int64_t out_end) const {
    const std::int64_t outputs_per_group = problem_.shape.outputs / problem_.shape.groups;
    Pending result{begin, end, {}, {}};
    for (std::int64_t output = out_begin; output < out_end;) {
        const std::int64_t left = std::min(out_end, (output / outputs_per_group + 1) * outputs_per_group) - output;
        const bool whole = left >= variant.outputs;
        Group group = make_group(g, used, whole ? variant : single, output, begin, end);
        (whole ? result.shared : result.single).push_back(std::move(group));
        output += whole ? variant.outputs : single.outputs;
    }
    return result;
}

// Groups that add nothing are dropped, but one of every output stays: it writes the bias. The first of what stays
// starts an output's sum, the last one finishes it.
void Convolution::Builder::settle(std::vector<Pending>& blocks, std::vector<Group> Pending::* list) {
    std::map<std::uint32_t, std::vector<Group*>> of_output;
    for (Pending& block : blocks)
        for (Group& group : block.*list) of_output[group.entry.channel].push_back(&group);
    for (auto& [channel, groups] : of_output) {
        std::vector<Group*> kept;
        for (Group* group : groups)
            if (!group->offsets.empty()) kept.push_back(group);
        if (kept.empty()) kept.push_back(groups.back());
        kept.front()->entry.flags |= kFirst, kept.back()->entry.flags |= kLast;
        for (Group* group : groups) group->keep = std::find(kept.begin(), kept.end(), group) != kept.end();
    }
    for (Pending& block : blocks) std::erase_if(block.*list, [](const Group& group) { return !group.keep; });
}

}  // namespace secateur
