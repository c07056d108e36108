#include "model.hpp"

#include <cmath>

namespace secateur::codec {

namespace {

// Rounded from formulas; no entry lies near enough to a tie for a mathematical library to matter.
Tables make_tables() {
    Tables tables{};
    for (int logit = -kSquashLimit; logit <= kSquashLimit; ++logit) {
        const long value = std::lround(65536.0 / (1.0 + std::exp(-logit / 256.0)));
        tables.squash[static_cast<std::size_t>(logit + kSquashLimit)] =
            static_cast<std::uint16_t>(std::clamp(value, 1L, 65535L));
    }
    for (int i = 0; i < 4096; ++i) {
        const double odds = (i + 0.5) / (4095.5 - i);
        tables.stretch[static_cast<std::size_t>(i)] = static_cast<std::int16_t>(std::lround(256.0 * std::log(odds)));
    }
    for (int seen = 0; seen < 1024; ++seen) {
        tables.rate[static_cast<std::size_t>(seen)] = static_cast<std::uint16_t>(655360 / (10 * seen + 16));
    }
    return tables;
}

}  // namespace

const Tables kTables = make_tables();

}  // namespace secateur::codec
