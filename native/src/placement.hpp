// Which values lie within others: views in what they are views of, and what is concatenated in its place of the whole, so
// that it is written there and never copied.
#pragma once

#include <cstdint>
#include <vector>

#include "setting.hpp"

namespace secateur {

struct Placement {
    std::vector<int> buffer;          // of every value: the one in whose buffer it lies
    std::vector<std::int64_t> shift;  // of every value: words into that buffer

    // Whether part `index` of a concatenation, `words` into the whole, is there already.
    bool holds(const Operation& operation, std::size_t index, std::int64_t words) const {
        const int part = operation.inputs[index], whole = operation.output;
        return buffer[part] == buffer[whole] && shift[part] == shift[whole] + words;
    }
};

// Whether channels that are side by side stay so: one row of them, and nothing or ones around it.
bool keeps_words(const FusedNetwork& network, const Operation& operation);
// Whether the output is the first input, in the same place, or part of it.
bool renames(const Setting& setting, const Operation& operation);
// Whether every part of a concatenation begins with a word of its own in the whole.
bool joins_words(const FusedNetwork& network, const Operation& operation);
// Of every part of a concatenation: words into the whole.
std::vector<std::int64_t> starts_of(const Setting& setting, const Operation& operation);
// What share of a concatenation's words lies elsewhere and has to be copied.
double copied_share(const Setting& setting, const Placement& placement, const Operation& operation);

Placement place(const Setting& setting);

}  // namespace secateur
