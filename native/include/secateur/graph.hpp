// A network as it comes from Python.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace secateur {

using Shape = std::vector<std::int64_t>;

std::int64_t elements(const Shape& shape);

// What a value is made of.
enum class Element { kFloat32, kUint8 };

// C-contiguous; the caller keeps it alive as long as the network. One of three: float32, int8, int32.
struct Array {
    const float* data = nullptr;
    Shape shape;
    const std::int8_t* bytes = nullptr;
    const std::int32_t* integers = nullptr;
};

// One node of a validated Graph. inputs: indices of values; the graph's inputs come first, then one per node.
struct Node {
    std::string name, op;
    std::vector<int> inputs;
    std::map<std::string, Array> weights;
    std::map<std::string, std::vector<std::int64_t>> integers;
    std::map<std::string, double> numbers;
    std::map<std::string, std::string> texts;
    Shape shape;
    Element element = Element::kFloat32;
};

struct Network {
    std::vector<Shape> inputs;  // float32
    std::vector<Node> nodes;
    std::vector<int> outputs;
};

}  // namespace secateur
