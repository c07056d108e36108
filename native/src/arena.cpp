#include "arena.hpp"

#include <algorithm>

namespace secateur {

std::int64_t lay_out(std::vector<Buffer>& buffers) {
    std::vector<Buffer*> order;
    for (Buffer& each : buffers)
        if (each.first >= 0) order.push_back(&each);
    std::sort(order.begin(), order.end(), [](const Buffer* a, const Buffer* b) { return a->size > b->size; });
    std::vector<Buffer*> placed;
    std::int64_t total = 0;
    for (Buffer* each : order) {
        std::int64_t place = 0;
        for (const Buffer* other : placed)  // sorted by place
            if (other->first <= each->last && each->first <= other->last) {
                if (place + each->size <= other->place) break;
                place = std::max(place, other->place + other->size);
            }
        each->place = place;
        total = std::max(total, place + each->size);
        placed.insert(std::upper_bound(placed.begin(), placed.end(), each,
                                       [](const Buffer* a, const Buffer* b) { return a->place < b->place; }),
                      each);
    }
    return total;
}

}  // namespace secateur
