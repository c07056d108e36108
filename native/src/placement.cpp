#include "placement.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "lowerings/lowering.hpp"

namespace secateur {
namespace {

std::int64_t axis_of(const Operation& operation) { return std::get<kind::Concat>(operation.kind).axis; }

// Words into the input of which the output is a view.
std::int64_t view_of(const Setting& setting, const Operation& operation) {
    if (!setting.network.views(operation.output)) return 0;
    const FoldingRules* rules = setting.output(operation).folded ? operation.lowering->folding : nullptr;
    if (rules != nullptr && rules->view != nullptr) return rules->view(setting, operation);
    return setting.network.placings[operation.output].view;
}

// Whether a part lies in itself as it would in the whole, of which it is one stretch.
bool fits(const Storage& part, const Storage& whole, std::size_t axis) {
    if (part.folded != whole.folded || part.origin != whole.origin) return false;
    for (std::size_t i = 0; i < whole.dims.size(); ++i) {
        if (whole.dims[i] == 1) continue;
        if (i != axis && whole.strides[i] >= whole.strides[axis]) return false;
        if (part.dims[i] != 1 && part.strides[i] != whole.strides[i]) return false;
    }
    return true;
}

// Sets of values in one buffer: each knows another one of its set, and how far it lies behind that.
class Joining {
   public:
    explicit Joining(const Setting& setting)
        : setting_(setting), next_(setting.storages.size()), shift_(next_.size()), constant_(next_.size(), false) {
        std::iota(next_.begin(), next_.end(), 0);
    }

    Placement run() {
        for (const Operation& operation : setting_.network.operations) {
            constant_[operation.output] = operation.lowering->constant;
            if (elements(setting_.output(operation).dims) == 0) continue;
            if (renames(setting_, operation))
                attach(operation.output, operation.inputs[0], view_of(setting_, operation));
            else if (std::holds_alternative<kind::Concat>(operation.kind)) join(operation);
        }
        Placement placement;
        for (std::size_t value = 0; value < next_.size(); ++value) {
            const Place place = find(static_cast<int>(value));
            placement.buffer.push_back(place.root), placement.shift.push_back(place.shift);
        }
        return placement;
    }

   private:
    struct Place {
        int root;
        std::int64_t shift;
    };

    Place find(int value) {
        std::int64_t shift = 0;
        while (next_[value] != value) {
            const int beyond = next_[value];
            shift_[value] += shift_[beyond], next_[value] = next_[beyond];
            shift += shift_[value], value = next_[value];
        }
        return {value, shift};
    }

    void attach(int value, int to, std::int64_t shift) { next_[value] = to, shift_[value] = shift; }

    // A set becomes part of the whole if all of its words are the whole's, each in one place.
    void join(const Operation& operation) {
        const Storage& whole = setting_.output(operation);
        const std::size_t axis = static_cast<std::size_t>(axis_of(operation));
        if (!joins_words(setting_.network, operation)) return;
        struct Set {
            std::int64_t shift, words = 0;
        };
        std::map<int, Set> sets;  // by root
        const std::vector<std::int64_t> starts = starts_of(setting_, operation);
        for (std::size_t i = 0; i < operation.inputs.size(); ++i) {
            const Storage& part = setting_.storages[operation.inputs[i]];
            if (elements(part.dims) == 0 || !fits(part, whole, axis)) continue;
            const Place place = find(operation.inputs[i]);
            Set& set = sets.try_emplace(place.root, Set{starts[i] - place.shift}).first->second;
            if (set.shift == starts[i] - place.shift) set.words += part.dims[axis] * whole.strides[axis];
        }
        for (const auto& [root, set] : sets)
            if (!constant_[root] && set.shift % 16 == 0 && set.words == setting_.storages[root].size)
                attach(root, operation.output, set.shift);
    }

    const Setting& setting_;
    std::vector<int> next_;
    std::vector<std::int64_t> shift_;
    std::vector<bool> constant_;
};

}  // namespace

bool keeps_words(const FusedNetwork& network, const Operation& operation) {
    const auto row = [&](int value) {
        const Shape& shape = network.whole[value];
        return !shape.empty() && shape[packed_axis(shape)] == elements(shape);
    };
    return row(operation.inputs[0]) && row(operation.output);
}

bool renames(const Setting& setting, const Operation& operation) {
    const FusedNetwork& network = setting.network;
    if (network.views(operation.output)) return true;
    if (!network.placings.empty()) return false;
    const auto whole = [&](const Storage& storage) { return dense(storage, setting.images); };
    return operation.lowering->renames && whole(setting.input(operation)) && whole(setting.output(operation)) &&
           (network.elements[operation.output] == Element::kFloat32 || keeps_words(network, operation));
}

bool joins_words(const FusedNetwork& network, const Operation& operation) {
    if (network.elements[operation.output] == Element::kFloat32) return true;
    const std::size_t axis = static_cast<std::size_t>(axis_of(operation));
    return axis != packed_axis(network.whole[operation.output]) ||
           std::all_of(operation.inputs.begin(), operation.inputs.end() - 1,
                       [&](int value) { return network.whole[value][axis] % 4 == 0; });
}

std::vector<std::int64_t> starts_of(const Setting& setting, const Operation& operation) {
    const std::size_t axis = static_cast<std::size_t>(axis_of(operation));
    std::vector<std::int64_t> starts;
    std::int64_t start = 0;
    for (int value : operation.inputs) {
        starts.push_back(start);
        start += setting.storages[value].dims[axis] * setting.output(operation).strides[axis];
    }
    return starts;
}

double copied_share(const Setting& setting, const Placement& placement, const Operation& operation) {
    const std::vector<std::int64_t> starts = starts_of(setting, operation);
    double copied = 0;
    for (std::size_t i = 0; i < starts.size(); ++i)
        if (!placement.holds(operation, i, starts[i]))
            copied += static_cast<double>(elements(setting.storages[operation.inputs[i]].dims));
    return copied / static_cast<double>(std::max<std::int64_t>(1, elements(setting.output(operation).dims)));
}

Placement place(const Setting& setting) { return Joining(setting).run(); }

}  // namespace secateur
