#include "folding.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "arranging.hpp"
#include "lowerings/lowering.hpp"
#include "placement.hpp"
#include "setting.hpp"

namespace secateur {
namespace {

using Size = std::pair<std::int64_t, std::int64_t>;  // height, width

constexpr double kPerElement = 1.5, kPerBorderVector = 4.0;  // cycles of a conversion, of filling a border

constexpr std::size_t kManySizes = 64;  // of planes: all are folded then, or none

class Folding {
   public:
    Folding(const FusedNetwork& network, const Kernels& kernels, const CostModel& costs)
        : network_(network), kernels_(kernels) {
        for (const Operation& operation : network_.operations) can_.push_back(can_fold(operation));
        find_borders();
        const Setting planar = plain_setting(network_, 1, kernels_, costs), folded = folded_setting(costs);
        const Placement planes = place(planar), parts = place(folded);
        for (std::size_t i = 0; i < can_.size(); ++i) {
            planar_.push_back(cycles_of(planar, planes, network_.operations[i]));
            folded_.push_back(can_[i] ? cycles_of(folded, parts, network_.operations[i]) : 0);
        }
        choose();
    }

    std::vector<double> cycles() const { return cost(chosen_); }

    FoldedNetwork rewrite() const {
        FoldedNetwork result{network_, std::vector<bool>(network_.shapes.size(), false), bordered_, {}};
        result.network.operations.clear();
        std::map<std::pair<int, bool>, int> known;
        const auto converted = [&](int value, bool folded) {
            if (result.folded[value] == folded) return value;
            const auto [at, fresh] =
                known.emplace(std::make_pair(value, folded), static_cast<int>(result.network.shapes.size()));
            if (!fresh) return at->second;
            result.network.add_alike(value);
            result.folded.push_back(folded), result.bordered.push_back(bordered_[value]);
            const char* name = folded ? "fold" : "unfold";
            result.network.operations.push_back(
                {&lowerings::conversion, kind::Conversion{}, name, name, {value}, at->second});
            return at->second;
        };
        for (std::size_t i = 0; i < network_.operations.size(); ++i) {
            Operation operation = network_.operations[i];
            const bool folded = is_folded(i, chosen_);
            for (int& value : operation.inputs) value = converted(value, folded);
            result.folded[operation.output] = folded;
            result.network.operations.push_back(std::move(operation));
        }
        for (int& value : result.network.outputs) value = converted(value, false);
        result.filled = find_filled(result.network.operations, result.folded.size(), [&](const Operation& operation) {
            return result.folded[operation.output] && operation.lowering->folding != nullptr;
        });
        pass_fills(result);
        return result;
    }

   private:
    Size size_of(std::size_t operation) const {
        const Shape& shape = network_.shapes[network_.operations[operation].output];
        return {shape[1], shape[2]};
    }

    bool is_folded(std::size_t operation, const std::set<Size>& sizes) const {
        return can_[operation] && sizes.count(size_of(operation)) > 0;
    }

    // Whether a kernel larger than a pixel reads the first input.
    static bool sees_border(const Operation& operation) {
        const FoldingRules* rules = operation.lowering->folding;
        return rules != nullptr && rules->sees_border != nullptr && rules->sees_border(operation);
    }

    // Of which values the border is filled: those whose border is read, or what these are planes of.
    template <typename Folded>
    static std::vector<bool> find_filled(const std::vector<Operation>& operations, std::size_t values,
                                         const Folded& folded) {
        std::vector<bool> filled(values, false);
        for (auto operation = operations.rbegin(); operation != operations.rend(); ++operation) {
            if (!folded(*operation)) continue;
            if (sees_border(*operation)) filled[operation->inputs[0]] = true;
            if (!operation->lowering->folding->planes || !filled[operation->output]) continue;
            for (int value : operation->inputs) filled[value] = true;
            filled[operation->output] = false;
        }
        return filled;
    }

    // With what borders are filled that others read: planes of bytes stand for the same numbers wherever they are.
    static void pass_fills(FoldedNetwork& folded) {
        FusedNetwork& network = folded.network;
        for (auto operation = network.operations.rbegin(); operation != network.operations.rend(); ++operation)
            if (const FoldingRules* rules = operation->lowering->folding; rules != nullptr && rules->planes)
                for (int value : operation->inputs)
                    if (folded.filled[value] && network.fills[value].bits == 0)
                        network.fills[value] = network.fills[operation->output];
    }

    double cycles_of(const Setting& setting, const Placement& placement, const Operation& operation) const {
        if (network_.views(operation.output)) return 0;
        const double cycles = operation.lowering->cycles(setting, operation);
        const bool joins = std::holds_alternative<kind::Concat>(operation.kind);
        return joins ? cycles * copied_share(setting, placement, operation) : cycles;
    }

    bool can_fold(const Operation& operation) const {
        const FoldingRules* rules = operation.lowering->folding;
        return rules != nullptr && foldable(network_.shapes[operation.output], kernels_.lanes) && is_plain(operation) &&
               rules->possible(network_, operation, kernels_.lanes);
    }

    // Whether all its values lie as make_storage has them, if they are not folded.
    bool is_plain(const Operation& operation) const {
        const auto plain = [&](int value) { return !network_.placings[value].storage; };
        return plain(operation.output) && std::all_of(operation.inputs.begin(), operation.inputs.end(), plain);
    }

    // One image, every value that can be folded folded.
    Setting folded_setting(const CostModel& costs) const {
        Setting setting = plain_setting(network_, 1, kernels_, costs);
        for (std::size_t value = 0; value < setting.storages.size(); ++value)
            if (foldable(network_.shapes[value], kernels_.lanes))
                setting.storages[value] = make_folded(network_.shapes[value], kernels_.lanes, bordered_[value]);
        return setting;
    }

    // Values that a kernel larger than a pixel reads are kept with a border, and those that must lie alike.
    void find_borders() {
        std::vector<int> same(
            network_.shapes.size());  // each value's way to the one that stands for all that lie alike
        std::iota(same.begin(), same.end(), 0);
        const auto root = [&](int value) {
            while (same[value] != value) value = same[value] = same[same[value]];
            return value;
        };
        for (std::size_t i = 0; i < can_.size(); ++i) {
            const Operation& operation = network_.operations[i];
            if (!can_[i]) continue;
            for (std::size_t input = operation.lowering->folding->alike; input < operation.inputs.size(); ++input)
                same[root(operation.inputs[input])] = root(operation.output);
        }
        std::vector<bool> read(network_.shapes.size(), false);
        for (std::size_t i = 0; i < can_.size(); ++i)
            if (can_[i] && sees_border(network_.operations[i])) read[root(network_.operations[i].inputs[0])] = true;
        bordered_.assign(network_.shapes.size(), false);
        for (std::size_t value = 0; value < bordered_.size(); ++value)
            bordered_[value] = read[root(static_cast<int>(value))];
    }

    void choose() {
        std::set<Size> every;
        for (std::size_t i = 0; i < can_.size(); ++i)
            if (can_[i]) every.insert(size_of(i));
        std::set<Size> best = every;
        for (const Size& size : every) {
            if (every.size() > kManySizes) break;
            std::set<Size> fewer = best;
            fewer.erase(size);
            if (total(fewer) < total(best)) best = fewer;
        }
        if (total({}) > total(best)) chosen_ = best;
    }

    double total(const std::set<Size>& sizes) const {
        const std::vector<double> cycles = cost(sizes);
        return std::accumulate(cycles.begin(), cycles.end(), 0.0);
    }

    std::vector<double> cost(const std::set<Size>& sizes) const {
        std::vector<bool> folded(network_.shapes.size(), false);
        std::set<std::pair<int, bool>> converted;
        std::vector<double> cycles;
        const auto filled = find_filled(network_.operations, network_.shapes.size(), [&](const Operation& operation) {
            return is_folded(static_cast<std::size_t>(&operation - network_.operations.data()), sizes);
        });
        const auto conversion = [&](int value, bool wanted) {
            if (folded[value] == wanted || !converted.emplace(value, wanted).second) return 0.0;
            return kPerElement * static_cast<double>(elements(network_.shapes[value]));
        };
        for (std::size_t i = 0; i < network_.operations.size(); ++i) {
            const Operation& operation = network_.operations[i];
            const bool here = is_folded(i, sizes);
            double sum = here ? folded_[i] : planar_[i];
            if (here && filled[operation.output]) sum += border(operation.output);
            for (int value : operation.inputs) sum += conversion(value, here);
            folded[operation.output] = here;
            cycles.push_back(sum);
        }
        for (int value : network_.outputs)
            if (!cycles.empty()) cycles.back() += conversion(value, false);
        return cycles;
    }

    double border(int value) const {
        const Storage storage = make_folded(network_.shapes[value], kernels_.lanes, true);
        return kPerBorderVector *
               static_cast<double>(storage.dims[0] * 2 * (storage.part_height() + storage.part_width() + 2));
    }

    const FusedNetwork& network_;
    const Kernels& kernels_;
    std::vector<bool> can_, bordered_;
    std::vector<double> planar_, folded_;
    std::set<Size> chosen_;
};

}  // namespace

FoldedNetwork fold(const FusedNetwork& network, const Kernels& kernels, const CostModel& costs) {
    return Folding(arrange(network, kernels).network, kernels, costs).rewrite();
}

FoldedNetwork unfolded(const FusedNetwork& network) {
    const std::vector<bool> none(network.shapes.size(), false);
    return {network, none, none, none};
}

std::vector<double> folded_cycles(const FusedNetwork& network, const Kernels& kernels, const CostModel& costs) {
    const ArrangedNetwork arranged = arrange(network, kernels);
    const std::vector<double> cycles = Folding(arranged.network, kernels, costs).cycles();
    std::vector<double> sums(network.operations.size());
    for (std::size_t i = 0; i < cycles.size(); ++i) sums[arranged.of[i]] += cycles[i];
    return sums;
}

Border border_of(const Storage& storage, int lanes, Word fill) {
    Border border;
    border.fill = fill;
    const std::int64_t height = storage.part_height(), width = storage.part_width();
    for (std::int64_t dy = -1; dy <= 1; ++dy)
        for (std::int64_t dx = -1; dx <= 1; ++dx)
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
                const std::int64_t y = lane / storage.parts_x + dy, x = lane % storage.parts_x + dx;
                const bool inside = y >= 0 && y < storage.parts_y && x >= 0 && x < storage.parts_x;
                border.lanes.push_back(inside ? static_cast<std::int32_t>(y * storage.parts_x + x) : -1);
            }
    // A pixel beyond one edge of a part is the pixel within the opposite edge of the next part.
    const auto step = [](std::int64_t at, std::int64_t size) { return at < 0 ? -1 : at >= size ? 1 : 0; };
    for (std::int64_t y = -1; y <= height; ++y)
        for (std::int64_t x = -1; x <= width; ++x) {
            const std::int64_t dy = step(y, height), dx = step(x, width);
            if (dy == 0 && dx == 0) continue;
            const auto place = [&](std::int64_t row, std::int64_t column) {
                return static_cast<std::int32_t>(row * storage.strides[1] + column * storage.strides[2]);
            };
            border.moves.push_back({place(y - dy * height, x - dx * width), place(y, x),
                                    static_cast<std::int32_t>((dy + 1) * 3 + dx + 1)});
        }
    std::stable_sort(border.moves.begin(), border.moves.end(),
                     [](const BorderMove& a, const BorderMove& b) { return a.pattern < b.pattern; });
    return border;
}

}  // namespace secateur
