#include "declared.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <unordered_map>

namespace secateur::packfile {
namespace {

#include "operations.inc"

template <typename Held>
std::unordered_map<std::string_view, const Held*> by_name(const std::vector<Held>& all) {
    std::unordered_map<std::string_view, const Held*> found;
    for (const Held& each : all) found.emplace(each.name, &each);
    return found;
}

template <typename Held>
const Held* found_in(const std::unordered_map<std::string_view, const Held*>& all, std::string_view name) {
    const auto place = all.find(name);
    return place == all.end() ? nullptr : place->second;
}

}  // namespace

const std::string_view kDictionary(kDictionaryBytes, sizeof kDictionaryBytes - 1);

const Declared* find_operation(std::string_view name) {
    static const std::vector<Declared> all = declared_operations();
    static const auto named = by_name(all);
    return found_in(named, name);
}

const DeclaredFunction* find_function(std::string_view name) {
    static const std::vector<DeclaredFunction> all = declared_functions();
    static const auto named = by_name(all);
    return found_in(named, name);
}

const Format* find_format(std::string_view name) {
    const auto* found =
        std::find_if(std::begin(kFormats), std::end(kFormats), [&](const Format& each) { return each.name == name; });
    return found == std::end(kFormats) ? nullptr : found;
}

bool is_keyword(std::string_view name) {
    return std::find(std::begin(kKeywords), std::end(kKeywords), name) != std::end(kKeywords);
}

const DeclaredAttribute* Declared::attribute(std::string_view wanted) const {
    const auto found =
        std::find_if(attributes.begin(), attributes.end(), [&](const auto& each) { return each.name == wanted; });
    return found == attributes.end() ? nullptr : &*found;
}

const DeclaredWeight* Declared::weight(std::string_view wanted) const {
    const auto found =
        std::find_if(weights.begin(), weights.end(), [&](const auto& each) { return each.role == wanted; });
    return found == weights.end() ? nullptr : &*found;
}

}  // namespace secateur::packfile
