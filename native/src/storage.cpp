#include "storage.hpp"

#include <algorithm>

#include "memory.hpp"

namespace secateur {
namespace {

std::int64_t elements_in_word(Element element) {
    switch (element) {
        case Element::kFloat32: return 1;
        case Element::kUint8: return 4;
    }
    return 1;
}

// Words from one row to the next: whole vectors, or a fraction of one that several rows fill.
std::int64_t row_pitch(std::int64_t width, int lanes) {
    if (width >= lanes) return round_up(width, lanes);
    std::int64_t pitch = 1;
    while (pitch < width) pitch *= 2;
    return pitch;
}

// Rows and columns of parts: as square as can be.
void cut(int lanes, std::int64_t& parts_y, std::int64_t& parts_x) {
    parts_y = 1;
    while (parts_y * parts_y * 4 <= lanes) parts_y *= 2;
    parts_x = lanes / parts_y;
}

}  // namespace

std::size_t packed_axis(const Shape& shape) { return shape.size() == 2 ? 1 : 0; }

Shape words_of(Shape shape, Element element) {
    const std::int64_t several = elements_in_word(element);
    if (!shape.empty()) {
        std::int64_t& size = shape[packed_axis(shape)];
        size = (size + several - 1) / several;
    }
    return shape;
}

Storage make_storage(const Shape& dims, int images, int lanes) {
    Storage storage{dims, std::vector<std::int64_t>(dims.size()), images};
    if (images == 1 && dims.size() == 3 && !tiny(dims, lanes)) {
        const std::int64_t pitch = row_pitch(dims[2], lanes);
        std::int64_t plane = round_up(dims[1] * pitch, lanes);
        if (plane % 32 == 0) plane += 16;  // an odd number of lines apart, planes share no sets of the caches
        storage.strides = {plane, pitch, 1};
        storage.size = dims[0] * plane;
        return storage;
    }
    for (std::size_t i = dims.size(); i-- > 0;) {
        storage.strides[i] = storage.size;
        storage.size *= dims[i];
    }
    // Planes many lines apart, and an even number, would share sets of the caches.
    if (images > 1 && dims.size() == 3 && dims[0] > 1 && storage.strides[0] % 256 == 0) {
        storage.strides[0] += 16;
        storage.size = dims[0] * storage.strides[0];
    }
    return storage;
}

Storage make_dense(const Shape& dims) {
    Storage storage{dims, std::vector<std::int64_t>(dims.size()), 1};
    for (std::size_t i = dims.size(); i-- > 0; storage.size *= dims[i]) storage.strides[i] = storage.size;
    return storage;
}

bool tiny(const Shape& dims, int lanes) { return dims.size() == 3 && dims[1] * dims[2] * 4 <= std::max(4, lanes); }

bool few_pixels(const Shape& input, const Shape& output, int lanes) {
    constexpr double kMost = 4e9;  // elements of the matrix, though most of it may be zero
    return tiny(output, lanes) && static_cast<double>(elements(input)) * static_cast<double>(elements(output)) <= kMost;
}

bool foldable(const Shape& dims, int lanes) {
    if (dims.size() != 3 || dims[0] == 0 || tiny(dims, lanes)) return false;
    std::int64_t parts_y, parts_x;
    cut(lanes, parts_y, parts_x);
    return dims[1] > 0 && dims[2] > 0 && dims[1] % parts_y == 0 && dims[2] % parts_x == 0;
}

Storage make_folded(const Shape& dims, int lanes, bool bordered) {
    Storage storage{dims, {}, 0, true};
    cut(lanes, storage.parts_y, storage.parts_x);
    const std::int64_t around = bordered ? 1 : 0, row = (storage.part_width() + 2 * around) * lanes;
    std::int64_t plane = round_up((storage.part_height() + 2 * around) * row, 16);
    if (plane % 32 == 0) plane += 16;
    storage.strides = {plane, row, lanes};
    storage.size = dims[0] * plane;
    storage.origin = around * (row + lanes);
    return storage;
}

bool dense(const Storage& storage, int images) {
    return !storage.folded && storage.size == elements(storage.dims) * images;
}

}  // namespace secateur
