#include "reading.hpp"

#include <set>

#include "container.hpp"
#include "declared.hpp"
#include "failure.hpp"

namespace secateur::packfile {
namespace {

const std::string kGraph = "secateur.graph", kPool = "secateur.pool";
constexpr std::uint64_t kFree = 16 << 20, kRatio = 4096, kSeal = 4;

// Refuses weights that decode to more than the limit, or to more than a file of this size could mean.
void check_sizes(const std::vector<Stored>& weights, std::uint64_t file_size, std::int64_t limit) {
    constexpr std::uint64_t kMuch = std::uint64_t{1} << 62;
    std::uint64_t wanted = 0;
    for (const Stored& each : weights)
        wanted = std::min(kMuch, wanted + static_cast<std::uint64_t>(each.count()) *
                                              static_cast<std::uint64_t>(find_format(each.dtype)->bits / 8));
    if (wanted > static_cast<std::uint64_t>(limit))
        throw FormatError(std::to_string(wanted) + " bytes of weights: more than the limit of " +
                          std::to_string(limit) + "; raise it if you trust the file (weight_bytes of the options)");
    if (wanted > kFree + kRatio * file_size)
        throw FormatError(std::to_string(wanted) + " bytes of weights in a file of " + std::to_string(file_size) +
                          ": too good to be true");
}

// Where each weight lies, its section or its part of the pool; all of the file is used, and once.
std::vector<Section> places_of(const Container& held, const std::vector<Stored>& weights) {
    std::map<std::string, Section> left = held.sections();
    const auto pool = left.find(kPool);
    std::uint64_t at = 0, end = 0;
    if (pool != left.end()) at = pool->second.start, end = at + pool->second.size + kSeal;
    left.erase(kGraph), left.erase(kPool);
    std::set<std::string> seen;
    std::vector<Section> found;
    for (const Stored& each : weights) {
        if (!seen.insert(each.name).second)
            throw FormatError("weight " + quoted(each.name) + " stands twice in its description");
        const auto size = static_cast<std::uint64_t>(each.bytes);
        const auto own = left.find(each.name);
        Section place{at, size};
        if (own != left.end()) place = own->second, left.erase(own);
        else at += size + kSeal;
        if (place.size != size || at > end)
            throw FormatError("weight " + quoted(each.name) + ": the " + std::to_string(size) +
                              " bytes of its description are not in the file");
        found.push_back(place);
    }
    if (!left.empty() || at != end) throw FormatError("it has bytes that belong to no weight");
    return found;
}

Weight read_weight(const Container& held, const Stored& stored, const Section& place) {
    try {
        return decode(stored, held.read(place));
    } catch (const FormatError& error) {
        throw FormatError("weight " + quoted(stored.name) + ": " + error.what());
    }
}

// What is wrong with the graph itself, said as such.
template <typename Check>
auto checked_graph(const Check& check) {
    try {
        return check();
    } catch (const GraphError& error) {
        throw FormatError(std::string("its graph cannot be used: ") + error.what());
    }
}

}  // namespace

File read(Source source, const Limits& limits) {
    const Container held(std::move(source));
    const auto graph = held.sections().find(kGraph);
    if (graph == held.sections().end()) throw FormatError("it has no graph: it was not written by secateur pack");
    Document document = read_document(held.read(graph->second));
    File file{std::move(document.metadata), std::move(document.graph), {}, {}};
    check_sizes(file.graph.weights, held.size(), limits.weight_bytes);
    const std::vector<Section> places = places_of(held, file.graph.weights);
    file.checked = checked_graph([&] {
        check_parts(file.graph, limits);
        Checked checked = check_graph(file.graph);
        check_costs(file.graph, checked, limits);
        return checked;
    });
    for (std::size_t i = 0; i < places.size(); ++i)
        file.weights.emplace(file.graph.weights[i].name, read_weight(held, file.graph.weights[i], places[i]));
    checked_graph([&] { return check_numbers(file.graph, file.checked, file.weights), 0; });
    return file;
}

}  // namespace secateur::packfile
