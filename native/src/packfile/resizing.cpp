#include "resizing.hpp"

#include <algorithm>
#include <cmath>

namespace secateur::packfile {
namespace {

constexpr double kSharpness = -0.75;  // Keys 1981: a, of the cubic convolution

// A whole number as floating point has it, brought into 0 … size − 1.
std::int32_t within(double place, std::int64_t size) {
    if (!(place > 0)) return 0;
    return static_cast<std::int32_t>(place < static_cast<double>(size)
                                         ? std::min<std::int64_t>(static_cast<std::int64_t>(place), size - 1)
                                         : size - 1);
}

// In float32, which decides where a place is a pixel's border.
Taps nearest(float step, std::int64_t old, std::int64_t made, float offset) {
    Taps taps{1, {}, std::vector<float>(static_cast<std::size_t>(made), 1.0f)};
    for (std::int64_t i = 0; i < made; ++i) {
        const float place = std::floor((static_cast<float>(i) + offset) * step);
        taps.sources.push_back(within(static_cast<double>(place), old));
    }
    return taps;
}

Taps linear(const std::vector<double>& places, std::int64_t old) {
    const std::size_t made = places.size();
    Taps taps{2, std::vector<std::int32_t>(2 * made), std::vector<float>(2 * made)};
    const auto last = static_cast<double>(old - 1);
    for (std::size_t i = 0; i < made; ++i) {
        const double place = std::max(places[i], 0.0), left = std::min(std::floor(place), last);
        const double share = std::clamp(place - left, 0.0, 1.0);
        taps.sources[i] = within(left, old), taps.sources[made + i] = within(left + 1, old);
        taps.shares[i] = static_cast<float>(1 - share), taps.shares[made + i] = static_cast<float>(share);
    }
    return taps;
}

Taps cubic(const std::vector<double>& places, std::int64_t old) {
    const std::size_t made = places.size();
    Taps taps{4, std::vector<std::int32_t>(4 * made), std::vector<float>(4 * made)};
    constexpr double a = kSharpness;
    for (std::size_t tap = 0; tap < 4; ++tap)
        for (std::size_t i = 0; i < made; ++i) {
            const double around = std::floor(places[i]) + (static_cast<double>(tap) - 1),
                         away = std::abs(places[i] - around);
            const double near = ((a + 2) * away - (a + 3)) * (away * away) + 1;
            const double far = ((away - 5) * away + 8) * away * a - 4 * a;
            taps.sources[tap * made + i] = within(around, old);
            taps.shares[tap * made + i] = static_cast<float>(away <= 1 ? near : far);
        }
    return taps;
}

}  // namespace

Taps taps_of(const Node& resize, std::size_t place, std::int64_t old) {
    const std::string& mode = resize.text("mode");
    const std::vector<double>& steps = resize.reals("steps");
    const std::int64_t made = resize.sizes("size")[place].whole();
    const double step =
        steps.empty() ? static_cast<double>(old) / static_cast<double>(std::max<std::int64_t>(made, 1)) : steps[place];
    if (mode == "nearest" || mode == "nearest_exact")
        return nearest(static_cast<float>(step), old, made, mode == "nearest_exact" ? 0.5f : 0.0f);
    const double apart = static_cast<double>(old - 1) / static_cast<double>(std::max<std::int64_t>(made - 1, 1));
    std::vector<double> places;
    for (std::int64_t i = 0; i < made; ++i)
        places.push_back(resize.flag("aligned") ? static_cast<double>(i) * apart
                                                : (static_cast<double>(i) + 0.5) * step - 0.5);
    return mode == "linear" ? linear(places, old) : cubic(places, old);
}

}  // namespace secateur::packfile
