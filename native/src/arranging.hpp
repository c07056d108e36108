// How the values of one image lie, where not row by row: rows of features (tokens) with the features outermost, so that a
// vector holds several rows as it holds the pixels of a plane; and values that are others in another shape, in another
// order of axes or in part, which are views of them as long as nobody needs them otherwise.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "fusion.hpp"
#include "kernels.hpp"
#include "storage.hpp"

namespace secateur {

struct ArrangedNetwork {
    FusedNetwork network;         // with the copies that this needs
    std::vector<std::size_t> of;  // of every operation: which one of the given network it belongs to
};

ArrangedNetwork arrange(const FusedNetwork& network, const Kernels& kernels);

// What lowerings are handed to say how the values of an operation lie.
class Arrangement {
   public:
    Arrangement(const FusedNetwork& network, const Kernels& kernels);
    ArrangedNetwork run();

    int lanes() const { return kernels_.lanes; }
    const FusedNetwork& network() const { return result_.network; }
    Shape dims(int value) const { return result_.network.shapes[value]; }
    // Of a value of an operation before the one at hand.
    Storage storage(int value) const;
    // Of a view, words into what it is a view of.
    std::int64_t from(int value) const { return std::max<std::int64_t>(0, result_.network.placings[value].view); }
    // Whether it lies as make_storage has it.
    bool plain(int value) const { return !result_.network.placings[value].storage; }
    bool holds_bytes(int value) const { return result_.network.elements[value] != Element::kFloat32; }

    // Input `index` has to lie so, or as make_storage has it: it is copied if it does not.
    void bring(Operation& operation, std::size_t index, const Storage& wanted);
    void bring_plainly(Operation& operation, std::size_t index);
    // What the operation at hand makes lies so, or is a view of its first input from a word on.
    void put(const Operation& operation, Storage storage);
    void view(const Operation& operation, std::vector<std::int64_t> strides, std::int64_t from);

   private:
    void bring_all_plainly(Operation& operation);
    int copied(int value, const std::optional<Storage>& wanted);

    const FusedNetwork& given_;
    const Kernels& kernels_;
    ArrangedNetwork result_;
    std::size_t current_ = 0;
    std::map<int, const Operation*> constants_;  // by value
    std::map<std::pair<int, std::vector<std::int64_t>>, int>
        copies_;  // by value and strides; empty: as make_storage has it
};

// Words between planes of so many: whole vectors, an odd number of lines, so that planes share no sets of the caches.
std::int64_t plane_of(std::int64_t words, int lanes);
// Of dims whose axes are in the same order as those of `storage`: without holes, but with room for whole vectors behind the
// planes of the outermost.
Storage ordered_as(const Storage& storage, const Shape& dims, int lanes);
Storage without_holes(const Storage& storage, int lanes);  // the same of its own dims, where it has holes
// Whether most of what lies between its first word and its last is no word of it.
bool has_holes(const Storage& storage);
// Values of `dims` whose last axis is outermost and whose other axes are one line, or lie as those of `like`, which has
// as many rows.
Storage feature_planes(const Shape& dims, int lanes);
Storage feature_planes_like(const Storage& like, std::int64_t features, int lanes);
// Whether rows of features fill vectors so: planes of them begin on vectors, and their rows are one line or equal lines.
bool has_feature_planes(const Storage& storage, std::int64_t from);
// The strides of a value as one of other dims, where it is one of those without being moved.
std::optional<std::vector<std::int64_t>> strides_as(const Storage& storage, const Shape& dims);

// Of operations that go through values element by element, or through lines of one.
void arrange_alike(Arrangement& arrangement, Operation& operation);

}  // namespace secateur
