#include "secateur/watch.hpp"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <utility>

#include "pages.hpp"
#include "platform.hpp"

namespace secateur {
namespace {

constexpr std::size_t kFewestPages = 16;  // fewer are read faster than asked about

// Marks belong to the memory, not to who asks about it: whoever clears some leaves word for all others by a new
// generation, and they read everything once.
struct Marks {
    std::mutex mutex;
    std::uint64_t generation = 0;
};

Marks& marks() {
    static Marks held;
    static const bool registered =
        (platform::at_fork([] { held.mutex.lock(); }, [] { held.mutex.unlock(); }, [] { held.mutex.unlock(); }), true);
    (void)registered;
    return held;
}

// The whole pages of a stretch, none where they are few.
Stretch whole_pages(const Stretch& stretch) {
    const auto address = reinterpret_cast<std::uintptr_t>(stretch.begin);
    const std::size_t before = std::min((pages::kPage - address % pages::kPage) % pages::kPage, stretch.bytes);
    const std::size_t count = (stretch.bytes - before) / pages::kPage;
    return {stretch.begin + before, count < kFewestPages ? 0 : count * pages::kPage};
}

}  // namespace

Watch::Watch(std::vector<Stretch> stretches, const std::vector<Stretch>& unmarked) : all_(std::move(stretches)) {
    for (const Stretch& each : all_)
        if (const Stretch pages = whole_pages(each); pages.bytes > 0) {
            pages_.push_back(pages);
            const std::byte *behind = pages.begin + pages.bytes, *end = each.begin + each.bytes;
            rims_.push_back({each.begin, static_cast<std::size_t>(pages.begin - each.begin)});
            rims_.push_back({behind, static_cast<std::size_t>(end - behind)});
        } else {
            rims_.push_back(each);
        }
    all_.insert(all_.end(), unmarked.begin(), unmarked.end());
    rims_.insert(rims_.end(), unmarked.begin(), unmarked.end());
    const std::lock_guard lock(marks().mutex);
    if (!pages_are_clean()) protect_pages();
    generation_ = marks().generation;
    fingerprint_ = fingerprint(all_), rim_fingerprint_ = fingerprint(rims_);
}

bool Watch::changed() {
    const std::lock_guard lock(marks().mutex);
    if (changed_) return true;
    if (!pages_are_clean()) protect_pages();
    if (generation_ == marks().generation) return changed_ = fingerprint(rims_) != rim_fingerprint_;
    generation_ = marks().generation;
    return changed_ = fingerprint(all_) != fingerprint_;
}

std::size_t Watch::marked() const {
    const std::lock_guard lock(marks().mutex);
    return std::accumulate(pages_.begin(), pages_.end(), std::size_t{0},
                           [](std::size_t sum, const Stretch& each) { return sum + each.bytes; });
}

bool Watch::pages_are_clean() const { return std::all_of(pages_.begin(), pages_.end(), pages::clean); }

// Before anything is read, so that what is written meanwhile is marked. Where the system does not do it, all is rim.
void Watch::protect_pages() {
    ++marks().generation;
    if (std::all_of(pages_.begin(), pages_.end(), pages::protect) && pages_are_clean()) return;
    pages_.clear(), rims_ = all_, rim_fingerprint_ = fingerprint_;
}

}  // namespace secateur
