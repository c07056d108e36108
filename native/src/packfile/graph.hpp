// A network as a file describes it, and what may be asked of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "sizes.hpp"

namespace secateur::packfile {

constexpr std::int64_t kMostLength = std::int64_t{1} << 40;

// A flag, a number, a text, a size with names, a list of sizes or a list of numbers.
using Attribute = std::variant<bool, std::int64_t, double, std::string, Size, std::vector<Size>, std::vector<double>>;

struct Node {
    std::string name, op;
    std::vector<std::string> inputs;
    std::map<std::string, std::string> weights;  // role → name
    std::map<std::string, Attribute> attributes;
    Shape shape;  // of the output, without the batch
    std::string source;

    // Of attributes that were checked.
    double number(const std::string& name) const;
    std::int64_t whole(const std::string& name) const;
    bool flag(const std::string& name) const { return std::get<bool>(attributes.at(name)); }
    const std::string& text(const std::string& name) const { return std::get<std::string>(attributes.at(name)); }
    const Shape& sizes(const std::string& name) const { return std::get<std::vector<Size>>(attributes.at(name)); }
    const std::vector<double>& reals(const std::string& name) const {
        return std::get<std::vector<double>>(attributes.at(name));
    }
};

// How a weight is stored: `bytes` of `codec`.
struct Stored {
    std::string name, dtype;
    std::vector<std::int64_t> shape;
    std::int64_t codec = 0, bytes = 0;

    std::int64_t count() const;
};

// What is read of how a network is called: arrays come one by one, in the order of its inputs, the images first.
struct Signature {
    std::vector<std::string> arguments;
    std::vector<std::int64_t> inputs, outputs;         // places, as they stand in arguments and in what it gives
    std::map<std::int64_t, std::string> output_names;  // by place, where the outermost container has names
    std::optional<std::int64_t> images;
    std::vector<std::pair<std::string, std::int64_t>> most;
};

struct Input {
    std::string name;
    Shape shape;
};

struct Graph {
    std::vector<Input> inputs;
    std::vector<std::string> outputs;
    std::vector<Node> nodes;
    std::vector<Stored> weights;
    std::map<std::string, std::string> elements;  // of inputs, those that are not float32
    std::optional<Signature> signature;

    // Names of the lengths that are free; `batch` only where a size depends on it.
    std::set<std::string> lengths() const;
    // How many images it takes, where not any number of them.
    std::optional<std::int64_t> images() const;
    // Of each output where it is in what the network gives, else the value's own name.
    std::vector<std::string> output_names() const;
    // At lengths, all of them given. Throws GraphError where one is missing or unknown, or too long.
    Graph at(const Lengths& lengths) const;
};

// Facts about a network.
struct Metadata {
    std::vector<double> mean, std;
    std::vector<std::string> classes;
};

// What a value holds: numbers of a format, or integers that stand for others.
struct Element {
    std::string format = "float32";
    bool quantised = false;
    float scale = 0;
    std::int64_t zero_point = 0;

    bool operator==(const Element&) const = default;
};

// What is known of a graph that was checked.
struct Checked {
    std::unordered_map<std::string, Element> elements;
    std::unordered_map<std::string, Shape> shapes;
    std::set<std::string> ordinary;  // values that no image has a part in
};

// What a network may cost; as network/limits.py has it.
struct Limits {
    std::int64_t weight_bytes = std::int64_t{4} << 30;
    std::int64_t nodes = 1 << 14, inputs = 1 << 10, outputs = 1 << 10, links = 1 << 17, names = 1 << 22;
    std::int64_t multiply_adds = 10'000'000'000'000, window_elements = 10'000'000'000, memory = 1 << 30,
                 growth = 1 << 10;
};

// Counts its parts, which may be wrong in every other way. Throws GraphError, as all here.
void check_parts(const Graph& graph, const Limits& limits);
// That every name is known, and every operation, attribute, weight and shape is right.
Checked check_graph(const Graph& graph);
// What one image takes of a graph that was checked; nothing is known yet where lengths are free.
void check_costs(const Graph& graph, const Checked& checked, const Limits& limits);

}  // namespace secateur::packfile
