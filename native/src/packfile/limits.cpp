// What a network may cost whoever opens, plans and runs it: network/limits.py.
#include <algorithm>
#include <limits>

#include "declared.hpp"
#include "failure.hpp"
#include "graph.hpp"

namespace secateur::packfile {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kUnpaid = 1 << 20;  // numbers in a value below which its growth is nobody's concern

void check(std::int64_t found, std::int64_t most, const char* name, const std::string& what) {
    if (found > most)
        throw GraphError(std::to_string(found) + " " + what + ": more than the limit of " + std::to_string(most) +
                         "; if you trust it, allow more (" + name + " of the options)");
}

// Never less than the truth, but for what is beyond 64 bits.
std::int64_t times(std::int64_t a, std::int64_t b) {
    std::int64_t result;
    return __builtin_mul_overflow(a, b, &result) ? kMost : result;
}

std::int64_t plus(std::int64_t a, std::int64_t b) {
    std::int64_t result;
    return __builtin_add_overflow(a, b, &result) ? kMost : result;
}

std::int64_t numbers(const Shape& shape, std::size_t from = 0, std::size_t less = 0) {
    std::int64_t product = 1;
    for (std::size_t i = from; i + less < shape.size(); ++i) product = times(product, shape[i].whole());
    return product;
}

// UTF-8's, as Python counts them.
std::int64_t characters(const std::string& text) {
    return std::count_if(text.begin(), text.end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

class Costs {
   public:
    Costs(const Graph& graph, const Checked& checked, const Limits& limits)
        : graph_(graph), checked_(checked), limits_(limits) {
        for (const Stored& each : graph.weights) weights_.emplace(each.name, &each);
    }

    void check_all() {
        check(memory(), limits_.memory, "memory", "bytes of values for one image");
        std::int64_t multiply_adds = 0, window_elements = 0;
        for (const Node& node : graph_.nodes) {
            check_growth(node);
            multiply_adds = plus(multiply_adds, multiply_adds_of(node));
            window_elements = plus(window_elements, window_elements_of(node));
        }
        check(multiply_adds, limits_.multiply_adds, "multiply_adds", "multiply-adds for one image");
        check(window_elements, limits_.window_elements, "window_elements",
              "elements that pooling and means look at for one image");
    }

   private:
    const Shape& shape_of(const std::string& value) const { return checked_.shapes.at(value); }
    const Shape& input(const Node& node, std::size_t place = 0) const { return shape_of(node.inputs[place]); }
    std::int64_t bytes_of(const std::string& value) const { return times(4, numbers(shape_of(value))); }

    // Of the values that are there at once, at most, and of what the caller gives and gets.
    std::int64_t memory() const {
        const auto end = graph_.nodes.size();
        std::unordered_map<std::string, std::size_t> last;
        for (std::size_t i = 0; i < end; ++i)
            for (const std::string& name : graph_.nodes[i].inputs) last[name] = i;
        for (const Node& node : graph_.nodes)
            if (node.inputs.empty() && node.weights.empty()) last[node.name] = end;
        for (const std::string& name : graph_.outputs) last[name] = end;
        std::int64_t given = 0, made = 0;
        for (const Input& each : graph_.inputs) given = plus(given, bytes_of(each.name));
        for (const std::string& name : graph_.outputs) made = plus(made, bytes_of(name));
        std::int64_t now = given, most = given;
        for (std::size_t i = 0; i < end; ++i) {
            const Node& node = graph_.nodes[i];
            now = plus(now, bytes_of(node.name)), most = std::max(most, now);
            std::set<std::string> over(node.inputs.begin(), node.inputs.end());
            over.insert(node.name);
            for (const std::string& name : over) {
                const auto found = last.find(name);
                if (found == last.end() || found->second == i) now -= bytes_of(name);
            }
        }
        return plus(plus(most, given), made);
    }

    void check_growth(const Node& node) const {
        const std::int64_t made = numbers(node.shape);
        if (made <= kUnpaid) return;
        std::int64_t paid = 0;
        for (const std::string& name : node.inputs) paid = plus(paid, numbers(shape_of(name)));
        for (const auto& [role, name] : node.weights) paid = plus(paid, weights_.at(name)->count());
        paid = std::max<std::int64_t>(1, paid);
        check((made - 1) / paid + 1, limits_.growth, "growth",
              "numbers out of each that " + node.op + " " + quoted(node.name) + " is given");
    }

    std::int64_t multiply_adds_of(const Node& node) const {
        if (node.op == "matmul") return times(numbers(node.shape), input(node).back().whole());
        if (node.op == "attention") {
            const Shape &query = input(node), &key = input(node, 1), &value = input(node, 2);
            return times(times(numbers(node.shape, 0, 1), key[key.size() - 2].whole()),
                         plus(query.back().whole(), value.back().whole()));
        }
        const Declared& declared = *find_operation(node.op);
        if (declared.matrix.empty()) return 0;
        const Stored& matrix = *weights_.at(node.weights.at(std::string(declared.matrix)));
        std::int64_t each = 1;
        for (std::size_t i = 1; i < matrix.shape.size(); ++i) each = times(each, matrix.shape[i]);
        return times(numbers(declared.axis != 0 ? node.shape : input(node)), each);
    }

    // Of adaptive pooling a bound: windows overlap by one row and one column.
    std::int64_t window_elements_of(const Node& node) const {
        static const std::set<std::string> kWholeAxes = {"mean", "quantised_mean", "sum",       "prod",
                                                         "amax", "amin",           "argmax",    "argmin",
                                                         "topk", "softmax",        "layer_norm"};
        if (node.attributes.count("kernel") > 0) {
            const Shape &kernel = node.sizes("kernel"), &planes = input(node);
            std::int64_t window = 1;
            for (std::size_t i = 0; i < 2; ++i)
                window = times(window, std::min(kernel[i].whole(), planes[i + 1].whole()));
            return times(numbers(node.shape), window);
        }
        if (node.op == "adaptive_avg_pool2d" || node.op == "quantised_adaptive_avg_pool2d") {
            std::int64_t looked = input(node)[0].whole();
            for (std::size_t i = 1; i < 3; ++i)
                looked = times(looked, plus(input(node)[i].whole(), node.shape[i].whole()));
            return looked;
        }
        if (node.op == "resize") return times(numbers(node.shape), 16);
        if (node.op == "grid_sample") return times(numbers(node.shape), 4);
        return kWholeAxes.count(node.op) > 0 ? numbers(input(node)) : 0;
    }

    const Graph& graph_;
    const Checked& checked_;
    const Limits& limits_;
    std::unordered_map<std::string, const Stored*> weights_;
};

}  // namespace

void check_parts(const Graph& graph, const Limits& limits) {
    const auto count = [](const auto& held) { return static_cast<std::int64_t>(held.size()); };
    check(count(graph.nodes), limits.nodes, "nodes", "operations");
    check(count(graph.inputs), limits.inputs, "inputs", "inputs");
    check(count(graph.outputs), limits.outputs, "outputs", "outputs");
    std::int64_t links = 0, names = 0;
    const auto add = [&](const std::string& name) { names += characters(name); };
    for (const Input& each : graph.inputs) add(each.name);
    for (const std::string& each : graph.outputs) add(each);
    for (const Stored& each : graph.weights) add(each.name);
    for (const Node& node : graph.nodes) {
        links += count(node.inputs);
        add(node.name), add(node.source);
        for (const std::string& each : node.inputs) add(each);
        for (const auto& [role, name] : node.weights) add(name);
    }
    check(links, limits.links, "links", "values read by its operations");
    check(names, limits.names, "names", "characters in its names");
}

void check_costs(const Graph& graph, const Checked& checked, const Limits& limits) {
    for (const Input& each : graph.inputs)
        if (!is_whole(each.shape)) return;
    for (const Node& node : graph.nodes)
        if (!is_whole(node.shape)) return;
    Costs(graph, checked, limits).check_all();
}

}  // namespace secateur::packfile
