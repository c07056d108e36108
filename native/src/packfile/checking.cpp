// That a graph makes sense: network/graph.py, its check_shapes.
#include <algorithm>
#include <cmath>
#include <optional>

#include "declared.hpp"
#include "eight_bits.hpp"
#include "failure.hpp"
#include "graph.hpp"
#include "shapes.hpp"

namespace secateur::packfile {
namespace {

using Formats = std::map<std::string, std::string>;  // of weights, by role

template <typename Texts>
bool among(const Texts& texts, const std::string& text) {
    return std::find(texts.begin(), texts.end(), text) != texts.end();
}

[[noreturn]] void refuse(const Node& node, const std::string& expected) {
    throw GraphError("node " + quoted(node.name) + " (" + node.op + "): expected " + expected);
}

std::string text_of(const Element& element) {
    if (!element.quantised) return element.format;
    return element.format + " (scale " + std::to_string(element.scale) + ", zero point " +
           std::to_string(element.zero_point) + ")";
}

// ---- What values hold -------------------------------------------------------------------------------------------

Element same(const Elements& declared, const Node& node, const std::vector<Element>& inputs) {
    const auto takes = [&](const Element& each) {
        return each.quantised ? declared.quantised : among(declared.formats, each.format);
    };
    const Element expected =
        !inputs.empty() && takes(inputs[0]) ? inputs[0] : Element{std::string(declared.formats[0]), false, 0, 0};
    for (const Element& came : inputs)
        if (!(came == expected)) refuse(node, "inputs of " + text_of(expected) + ", got " + text_of(came));
    return expected;
}

Element stated_output(const Elements& declared, const Node& node) {
    const auto element = node.attributes.find("element");
    const std::string format = element == node.attributes.end() ? "float32" : node.text("element");
    if (declared.output == Elements::kNone || format == "float32") return {};
    const std::string prefix(declared.output);
    const double scale = node.number(prefix + "scale");
    const std::int64_t zero_point = node.whole(prefix + "zero_point");
    const auto [least, most] = bounds_of(format);
    const bool good = (format == "uint8" || format == "int8") && scale >= kSmallestScale && scale <= kLargestScale &&
                      zero_point >= least && zero_point <= most;
    if (!good) refuse(node, "a scale and a zero point as values of " + format + " have them");
    return {format, true, static_cast<float>(scale), zero_point};
}

Element stated(const Elements& declared, const Node& node, const std::vector<Element>& inputs) {
    const Element made = stated_output(declared, node);
    std::vector<std::string_view> prefixes = declared.prefixes;
    prefixes.push_back(made.quantised ? declared.beside : Elements::kNone);
    for (std::size_t i = 0; i < std::min(inputs.size(), prefixes.size()); ++i) {
        if (prefixes[i] == Elements::kNone) {
            if (!(inputs[i] == Element{})) refuse(node, "an input of float32, got " + text_of(inputs[i]));
            continue;
        }
        const std::string prefix(prefixes[i]);
        const bool fits = inputs[i].quantised && inputs[i].scale == static_cast<float>(node.number(prefix + "scale")) &&
                          inputs[i].zero_point == node.whole(prefix + "zero_point");
        if (!fits)
            refuse(node, "an input quantised as " + prefix + "scale and " + prefix + "zero_point say, got " +
                             text_of(inputs[i]));
    }
    return made;
}

Element each(const Elements& declared, const Node& node, const std::vector<Element>& inputs) {
    for (std::size_t i = 0; i < std::min(inputs.size(), declared.inputs.size()); ++i)
        if (inputs[i].quantised || !among(declared.inputs[i], inputs[i].format))
            refuse(node, "another input than one of " + text_of(inputs[i]));
    for (int place : declared.alike)
        if (!(inputs[static_cast<std::size_t>(place)] == inputs[static_cast<std::size_t>(declared.alike[0])]))
            refuse(node, "inputs that hold the same");
    if (declared.same_as >= 0) return inputs[static_cast<std::size_t>(declared.same_as)];
    if (declared.output != Elements::kNone) return {std::string(declared.output), false, 0, 0};
    return {node.text("element"), false, 0, 0};
}

Element element_of(const Elements& declared, const Node& node, const std::vector<Element>& inputs,
                   const Formats& weights) {
    switch (declared.kind) {
        case Elements::Kind::kSame: return same(declared, node, inputs);
        case Elements::Kind::kStated: return stated(declared, node, inputs);
        case Elements::Kind::kEach: return each(declared, node, inputs);
        case Elements::Kind::kOfWeight: break;
    }
    const std::string& held = weights.at(std::string(declared.output));
    return {find_format(held)->mantissa > 0 ? "float32" : held, false, 0, 0};
}

// ---- The whole --------------------------------------------------------------------------------------------------

class Checking {
   public:
    explicit Checking(const Graph& graph) : graph_(graph) {
        for (const Stored& each : graph.weights) weights_.emplace(each.name, &each);
    }

    Checked all() {
        check_inputs();
        for (const Node& node : graph_.nodes) check_node(node);
        check_lengths();
        check_ends();
        if (graph_.signature) check_signature(*graph_.signature);
        return std::move(found_);
    }

   private:
    void check_inputs() {
        for (const Input& input : graph_.inputs) {
            const auto element = graph_.elements.find(input.name);
            found_.shapes.emplace(input.name, input.shape);
            found_.elements[input.name].format = element == graph_.elements.end() ? "float32" : element->second;
        }
        for (const auto& [name, element] : graph_.elements)
            if (found_.shapes.count(name) == 0 || find_format(element) == nullptr)
                throw GraphError("elements of " + quoted(name) + ": expected an input's, of a format that there is");
    }

    void check_node(const Node& node) {
        if (found_.shapes.count(node.name) > 0)
            throw GraphError("node " + quoted(node.name) + ": the name stands twice");
        const Declared* declared = find_operation(node.op);
        if (declared == nullptr)
            throw GraphError("node " + quoted(node.name) + ": unknown operation " + quoted(node.op));
        std::vector<Shape> shapes;
        std::vector<Element> elements;
        for (const std::string& name : node.inputs) {
            const auto found = found_.shapes.find(name);
            if (found == found_.shapes.end()) refuse_name(node, name);
            shapes.push_back(found->second), elements.push_back(found_.elements.at(name));
        }
        WeightShapes weights;
        Formats formats;
        for (const auto& [role, name] : node.weights) {
            const auto found = weights_.find(name);
            if (found == weights_.end()) refuse_name(node, name);
            weights[role].assign(found->second->shape.begin(), found->second->shape.end());
            formats[role] = found->second->dtype, used_.insert(name);
        }
        const Shape made = infer_shape(*declared, node, shapes, weights);
        if (made != node.shape)
            refuse(node, "its shape to be " + packfile::text_of(made) + ", got " + packfile::text_of(node.shape));
        for (const auto& [role, format] : formats)
            if (!among(declared->weight(role)->formats, format))
                refuse(node, role + " of another format than " + format);
        found_.shapes.emplace(node.name, made);
        found_.elements.emplace(node.name, element_of(declared->elements, node, elements, formats));
        note_ordinary(node, *declared);
    }

    [[noreturn]] static void refuse_name(const Node& node, const std::string& name) {
        throw GraphError("node " + quoted(node.name) + " (" + node.op + "): " + quoted(name) +
                         " is no value before it and no weight");
    }

    void note_ordinary(const Node& node, const Declared& declared) {
        const bool given = std::all_of(node.inputs.begin(), node.inputs.end(),
                                       [&](const std::string& name) { return found_.ordinary.count(name) > 0; });
        if (declared.ordinary >= 0 && (declared.ordinary == 1) == given)
            refuse(node, given ? "values of images, got an ordinary one" : "an ordinary value, got one per image");
        if (declared.ordinary < 0 ? given : declared.ordinary == 1) found_.ordinary.insert(node.name);
    }

    // That the inputs' shapes tell every length that is in use, but for the batch, which they leave out.
    void check_lengths() const {
        std::set<std::string> told, used;
        for (const Input& input : graph_.inputs)
            for (const Size& size : input.shape) {
                if (const auto line = size.line()) told.insert(line->name);
                size.names_into(used);
            }
        if (used.count("batch") > 0)
            throw GraphError("inputs with a size of batch: expected none, as shapes leave the batch out");
        std::set<std::string> all = graph_.lengths();
        all.erase("batch");
        for (const std::string& name : all)
            if (told.count(name) == 0) throw GraphError("no input tells the length " + quoted(name));
        std::optional<std::string> images;
        for (const Node& node : graph_.nodes) {
            if (find_operation(node.op)->ordinary < 0) continue;
            const Attribute& value = node.attributes.at("images");
            const auto* whole = std::get_if<std::int64_t>(&value);
            const std::string count = whole ? std::to_string(*whole) : std::get<Size>(value).text();
            if (images && *images != count)
                throw GraphError("a graph for different numbers of images: expected one number of them");
            images = count;
        }
    }

    void check_ends() const {
        for (const std::string& name : graph_.outputs)
            if (found_.shapes.count(name) == 0) refuse_ends(name);
        for (const auto& [name, stored] : weights_)
            if (used_.count(name) == 0) refuse_ends(name);
        if (graph_.inputs.empty() || graph_.outputs.empty()) refuse_ends("");
    }

    [[noreturn]] static void refuse_ends(const std::string& name) {
        throw GraphError("a graph needs inputs, outputs that are values and no unused weights; wrong: " + quoted(name));
    }

    void check_signature(const Signature& signature) const {
        std::vector<std::int64_t> taken = signature.inputs;
        std::sort(taken.begin(), taken.end());
        bool good = taken.size() == graph_.inputs.size();
        for (std::size_t i = 0; i < taken.size() && good; ++i) good = taken[i] == static_cast<std::int64_t>(i);
        for (std::int64_t place : signature.outputs)
            good = good && place < static_cast<std::int64_t>(graph_.outputs.size());
        const std::set<std::string> names(signature.arguments.begin(), signature.arguments.end());
        if (!good || names.size() < signature.arguments.size())
            throw GraphError("a signature of other inputs and outputs than those of its graph");
        if (signature.images && *signature.images < 1) throw GraphError("a signature of 0 images: expected 1 at least");
    }

    const Graph& graph_;
    std::unordered_map<std::string, const Stored*> weights_;
    std::set<std::string> used_;
    Checked found_;
};

}  // namespace

Checked check_graph(const Graph& graph) { return Checking(graph).all(); }

}  // namespace secateur::packfile
