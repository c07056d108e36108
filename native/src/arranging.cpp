#include "arranging.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "lowerings/lowering.hpp"
#include "memory.hpp"
#include "site.hpp"

namespace secateur {
namespace {

// Axes from the outermost to the innermost; those of one element say nothing.
std::vector<std::size_t> by_stride(const Storage& storage) {
    std::vector<std::size_t> axes(storage.dims.size());
    std::iota(axes.begin(), axes.end(), 0);
    std::stable_sort(axes.begin(), axes.end(),
                     [&](std::size_t a, std::size_t b) { return storage.strides[a] > storage.strides[b]; });
    return axes;
}

// Words from the first element to behind the last.
std::int64_t span(const Storage& storage) {
    std::int64_t last = 0;
    for (std::size_t axis = 0; axis < storage.dims.size(); ++axis)
        last += (storage.dims[axis] - 1) * storage.strides[axis];
    return last + 1;
}

Storage last_axes(const Storage& storage, std::size_t count) {
    const auto from = static_cast<std::ptrdiff_t>(storage.dims.size() - count);
    return {Shape(storage.dims.begin() + from, storage.dims.end()),
            std::vector<std::int64_t>(storage.strides.begin() + from, storage.strides.end()), storage.size};
}

bool same_strides(const Storage& one, const Storage& other) {
    for (std::size_t axis = 0; axis < one.dims.size(); ++axis)
        if (one.dims[axis] != 1 && one.strides[axis] != other.strides[axis]) return false;
    return true;
}

}  // namespace

// ---- Storages ---------------------------------------------------------------------------------------------------

std::int64_t plane_of(std::int64_t words, int lanes) {
    const std::int64_t plane = round_up(words, std::max(lanes, 16));
    return plane % 32 == 0 ? plane + 16 : plane;
}

bool has_holes(const Storage& storage) {
    return elements(storage.dims) > 0 && 2 * span(storage) > 3 * elements(storage.dims) + 64;
}

Storage ordered_as(const Storage& storage, const Shape& dims, int lanes) {
    const std::vector<std::size_t> axes = by_stride(storage);
    Storage made{dims, std::vector<std::int64_t>(dims.size()), 1};
    for (std::size_t i = axes.size(); i-- > 0;) {
        const bool planes = i == 0 && axes.size() > 1 && axes[0] != 0 && made.size >= lanes;
        made.strides[axes[i]] = planes ? plane_of(made.size, lanes) : made.size;
        made.size = made.strides[axes[i]] * dims[axes[i]];
    }
    return made;
}

Storage without_holes(const Storage& storage, int lanes) {
    return has_holes(storage) ? ordered_as(storage, storage.dims, lanes) : storage;
}

Storage feature_planes(const Shape& dims, int lanes) {
    Storage made{dims, std::vector<std::int64_t>(dims.size()), 1};
    for (std::size_t axis = dims.size() - 1; axis-- > 0; made.size *= dims[axis]) made.strides[axis] = made.size;
    made.strides.back() = plane_of(made.size, lanes);
    made.size = made.strides.back() * dims.back();
    return made;
}

Storage feature_planes_like(const Storage& like, std::int64_t features, int lanes) {
    Storage made = like;
    made.dims.back() = features;
    Storage rows = like;
    rows.dims.back() = 1;
    made.strides.back() = plane_of(span(rows), lanes);
    made.size = made.strides.back() * features;
    return made;
}

bool has_feature_planes(const Storage& storage, std::int64_t from) {
    if (storage.dims.size() < 2 || from % 16 != 0 || storage.strides.back() % 16 != 0) return false;
    const auto plane = row_plane(storage);
    return plane && plane->height * plane->row <= storage.strides.back();
}

std::optional<std::vector<std::int64_t>> strides_as(const Storage& storage, const Shape& dims) {
    std::vector<std::int64_t> strides(dims.size(), 1);
    if (elements(dims) == 0) return {};
    // From behind: axes of the one that are together as many elements as axes of the other, and one line.
    std::size_t to = dims.size();
    std::int64_t stride = 0, left = 1;  // of the line at hand: its step, its elements that no axis of dims has yet
    std::size_t from = storage.dims.size();
    const auto extend = [&] {
        while (from > 0) {
            --from;
            if (storage.dims[from] == 1) continue;
            if (left == 1) stride = storage.strides[from];
            else if (storage.strides[from] != stride * left) return false;
            left *= storage.dims[from];
            return true;
        }
        return false;
    };
    while (to > 0) {
        --to;
        const std::int64_t size = dims[to];
        if (size == 1) {
            strides[to] = left == 1 ? 1 : stride;
            continue;
        }
        while (left % size != 0 || left == 1)
            if (!extend()) return {};
        strides[to] = stride;
        stride *= size, left /= size;
    }
    return strides;
}

// ---- The network ------------------------------------------------------------------------------------------------

Arrangement::Arrangement(const FusedNetwork& network, const Kernels& kernels) : given_(network), kernels_(kernels) {
    result_.network = network;
    result_.network.operations.clear();
    result_.network.placings.resize(network.shapes.size());
    for (const Operation& operation : network.operations)
        if (operation.lowering->constant) constants_[operation.output] = &operation;
}

ArrangedNetwork Arrangement::run() {
    for (current_ = 0; current_ < given_.operations.size(); ++current_) {
        Operation operation = given_.operations[current_];
        const bool empty = elements(dims(operation.output)) == 0;
        if (operation.lowering->arrange != nullptr && !empty) operation.lowering->arrange(*this, operation);
        else bring_all_plainly(operation);
        result_.network.operations.push_back(std::move(operation)), result_.of.push_back(current_);
    }
    return std::move(result_);
}

Storage Arrangement::storage(int value) const {
    const auto& placed = result_.network.placings[value].storage;
    return placed ? *placed : make_storage(dims(value), 1, kernels_.lanes);
}

void Arrangement::bring(Operation& operation, std::size_t index, const Storage& wanted) {
    int& value = operation.inputs[index];
    if (storage(value).strides == wanted.strides && from(value) % 16 == 0) return;
    value = copied(value, wanted);
}

void Arrangement::bring_plainly(Operation& operation, std::size_t index) {
    int& value = operation.inputs[index];
    if (!plain(value)) value = copied(value, {});
}

void Arrangement::bring_all_plainly(Operation& operation) {
    for (std::size_t index = 0; index < operation.inputs.size(); ++index) bring_plainly(operation, index);
}

// A constant is written so from the beginning, anything else is copied.
int Arrangement::copied(int value, const std::optional<Storage>& wanted) {
    FusedNetwork& network = result_.network;
    const auto [known, fresh] = copies_.try_emplace({value, wanted ? wanted->strides : std::vector<std::int64_t>{}}, 0);
    if (!fresh) return known->second;
    const int made = known->second = network.add_alike(value);
    network.placings[made] = {wanted};
    std::vector<std::int64_t> same(dims(value).size());
    std::iota(same.begin(), same.end(), 0);
    if (const auto constant = constants_.find(value); constant != constants_.end()) {
        Operation again = *constant->second;
        again.output = made;
        network.operations.push_back(std::move(again));
    } else {
        network.operations.push_back(
            {&lowerings::permute, kind::Permute{std::move(same)}, "rearrange", "rearrange", {value}, made});
    }
    result_.of.push_back(current_);
    return made;
}

void Arrangement::put(const Operation& operation, Storage storage) {
    const bool same = storage.strides == make_storage(storage.dims, 1, kernels_.lanes).strides;
    result_.network.placings[operation.output] = {same ? std::nullopt : std::optional(std::move(storage))};
}

void Arrangement::view(const Operation& operation, std::vector<std::int64_t> strides, std::int64_t from) {
    Storage storage{dims(operation.output), std::move(strides)};
    storage.size = span(storage);
    Storage usual = make_storage(storage.dims, 1, kernels_.lanes);
    const bool same = same_strides(storage, usual) && from % 16 == 0;
    result_.network.placings[operation.output] = {same ? std::nullopt : std::optional(std::move(storage)), from};
}

ArrangedNetwork arrange(const FusedNetwork& network, const Kernels& kernels) {
    return Arrangement(network, kernels).run();
}

// ---- Rules ------------------------------------------------------------------------------------------------------

void arrange_alike(Arrangement& arrangement, Operation& operation) {
    const Shape dims = arrangement.dims(operation.output);
    std::optional<Storage> wanted;
    for (int value : operation.inputs)
        if (arrangement.dims(value) == dims && !arrangement.plain(value) && !wanted)
            wanted = without_holes(arrangement.storage(value), arrangement.lanes());
    for (std::size_t index = 0; index < operation.inputs.size(); ++index) {
        const Shape own = arrangement.dims(operation.inputs[index]);
        if (!wanted) arrangement.bring_plainly(operation, index);
        else if (own == dims) arrangement.bring(operation, index, *wanted);
        else arrangement.bring(operation, index, ordered_as(last_axes(*wanted, own.size()), own, arrangement.lanes()));
    }
    if (wanted) arrangement.put(operation, *wanted);
}

}  // namespace secateur
