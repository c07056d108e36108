// Shape rules: the shape of an operation's output, behind the batch, from those of its inputs and weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "declared.hpp"
#include "graph.hpp"

namespace secateur::packfile {

// By role.
using WeightShapes = std::map<std::string, Shape>;

// What a rule is given; reading an attribute checks it. Throws GraphError, as all here.
class Arguments {
   public:
    Arguments(const Declared& operation, const Node& node, const std::vector<Shape>& shapes,
              const WeightShapes& weights)
        : operation(operation), node(node), shapes(shapes), weights(weights) {}

    void demand(bool holds, const std::string& expected) const {
        if (!holds) refuse(expected);
    }
    void check_attributes() const;
    const Attribute& read(std::string_view name) const;
    const Shape& numbers(std::string_view name,
                         std::size_t length = 0) const;  // of whole numbers; length 0: as declared
    // Between bounds that the shapes at hand say.
    std::int64_t whole(std::string_view name, std::int64_t least, std::int64_t most) const;
    Size extent(std::string_view name, const Size& least, const Size& most) const;
    double number(std::string_view name) const;
    const std::string& text(std::string_view name) const { return std::get<std::string>(read(name)); }
    bool flag(std::string_view name) const { return std::get<bool>(read(name)); }
    const Shape& planes() const;
    void weight(const std::string& role, const Shape& shape) const;  // where it is there, it has that shape
    const Shape& shape() const { return shapes[0]; }

    const Declared& operation;
    const Node& node;
    const std::vector<Shape>& shapes;
    const WeightShapes& weights;

   private:
    [[noreturn]] void refuse(const std::string& expected) const;
};

// Of a node's output. Throws Unsupported for an operation that has no rule here.
Shape infer_shape(const Declared& operation, const Node& node, const std::vector<Shape>& inputs,
                  const WeightShapes& weights);

}  // namespace secateur::packfile
