#include "entries.hpp"

#include <algorithm>
#include <limits>
#include <unordered_set>

#include "eight_bits.hpp"
#include "failure.hpp"
#include "resizing.hpp"

namespace secateur::packfile {
namespace {

constexpr std::int64_t kHalf = 128;  // the core has no signed values of eight bits: −128 … 127 is 0 … 255 there

secateur::Shape sizes_of(const Shape& shape) {
    secateur::Shape found;
    for (const Size& each : shape) found.push_back(each.whole());
    return found;
}

// Of a value that a file has no name for: no text in it has such a byte.
std::string inner(const std::string& name) { return "\xFF" + name; }

Shape in_rows(const Shape& shape) {
    Size rows = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows = rows * shape[i];
    return {rows, shape.back()};
}

bool is_whole_format(const std::string& element) { return element == "int64" || element == "int32"; }

class Writing {
   public:
    Writing(const Graph& graph, const Checked& checked, const Weights& weights)
        : graph_(graph), checked_(checked), weights_(weights) {
        for (const auto& [name, element] : checked.elements) elements_.emplace(name, element.format);
    }

    Entries all() {
        for (const Input& each : graph_.inputs) {
            index_.emplace(each.name, next());
            made_.network.inputs.push_back(sizes_of(each.shape));
        }
        std::unordered_set<std::string> read(graph_.outputs.begin(), graph_.outputs.end());
        for (const Node& node : graph_.nodes) read.insert(node.inputs.begin(), node.inputs.end());
        for (const Node& node : graph_.nodes) {
            if (!node.inputs.empty()) write_spelt_out(node);
            else if (read.count(node.name) > 0) write_constant(node);
        }
        for (const std::string& name : graph_.outputs) made_.network.outputs.push_back(index_.at(name));
        return std::move(made_);
    }

   private:
    int next() const { return static_cast<int>(made_.network.inputs.size() + made_.network.nodes.size()); }
    const std::string& element(const std::string& value) const { return elements_.at(value); }
    const Shape& shape_of(const std::string& value) const { return checked_.shapes.at(value); }

    // ---- Spellings: a node as one or several of the core's --------------------------------------------------------

    void write_spelt_out(const Node& node) {
        if (node.op == "quantised_linear" && node.shape.size() >= 3) write_in_rows(node);
        else if (node.op == "cast") write_cast(node);
        else if (node.op == "argmax" || node.op == "argmin") write_extreme(node);
        else if (node.op == "logical_and") write_as(node, "minimum");
        else if (node.op == "logical_or") write_as(node, "maximum");
        else write(node);
    }

    void write_as(Node node, const char* op) {
        node.op = op;
        write(node);
    }

    void write_reshape(const std::string& name, const std::string& of, const Shape& shape, const std::string& element) {
        elements_.emplace(name, element);
        Node node{name, "reshape", {of}, {}, {}, shape, {}};
        node.attributes.emplace("shape", shape);
        write(node);
    }

    // Rows that lie along several axes are joined before it and parted behind.
    void write_in_rows(Node node) {
        const std::string name = node.name;
        const Shape shape = node.shape;
        for (std::string& value : node.inputs) {
            const std::string joined = inner(name + " of " + value);
            if (index_.count(joined) == 0) write_reshape(joined, value, in_rows(shape_of(value)), element(value));
            value = joined;
        }
        node.name = inner(name), node.shape = in_rows(shape);
        elements_.emplace(node.name, element(name));
        write(node);
        write_reshape(name, node.name, shape, element(name));
    }

    // All numbers are floats to the core, truth values 0 and 1.
    void write_cast(Node node) {
        const std::string &came = element(node.inputs[0]), wanted = node.text("element");
        node.attributes.clear();
        if (wanted == "bool" && came != "bool") write_as(node, "is_true");
        else if (is_whole_format(wanted) && came == "float32") write_as(node, "truncate");
        else write_reshape(node.name, node.inputs[0], node.shape, wanted);
    }

    // Of a ranking the first place.
    void write_extreme(const Node& node) {
        const std::int64_t axis = node.whole("axis");
        Node ranked = node;
        ranked.op = "topk", ranked.shape = shape_of(node.inputs[0]);
        ranked.shape[static_cast<std::size_t>(axis - 1)] = 1;
        ranked.attributes.clear();
        ranked.attributes.emplace("axis", axis), ranked.attributes.emplace("count", std::int64_t{1});
        ranked.attributes.emplace("largest", node.op == "argmax");
        if (node.flag("keepdims")) return write(ranked);
        ranked.name = inner(node.name);
        elements_.emplace(ranked.name, element(node.name));
        write(ranked);
        write_reshape(node.name, ranked.name, node.shape, element(node.name));
    }

    // ---- One node of the core's -----------------------------------------------------------------------------------

    void write(const Node& node) {
        secateur::Node made;
        made.name = node.name, made.op = node.op, made.shape = sizes_of(node.shape);
        for (const std::string& each : node.inputs) made.inputs.push_back(index_.at(each));
        for (const auto& [role, name] : node.weights) made.weights[role] = array_of(weights_.at(name));
        for (const auto& [name, value] : node.attributes) take_attribute(made, name, value);
        const std::string& own = element(node.name);
        made.element = own == "uint8" || own == "int8" ? secateur::Element::kUint8 : secateur::Element::kFloat32;
        if (node.op == "attention") take_attribute(made, "boolean", element(node.inputs.back()) == "bool");
        work_out(node, made);
        index_.emplace(node.name, next());
        made_.network.nodes.push_back(std::move(made));
    }

    void write_constant(const Node& node) {
        secateur::Node made;
        made.name = node.name, made.op = "constant", made.shape = sizes_of(node.shape);
        made.weights["value"] = kept(constant_of(node, weights_), made.shape);
        index_.emplace(node.name, next());
        made_.network.nodes.push_back(std::move(made));
    }

    static void take_attribute(secateur::Node& made, const std::string& name, const Attribute& value) {
        if (const auto* text = std::get_if<std::string>(&value)) made.texts[name] = *text;
        if (const auto* real = std::get_if<double>(&value)) made.numbers[name] = *real;
        if (const auto* sizes = std::get_if<Shape>(&value)) made.integers[name] = sizes_of(*sizes);
        std::int64_t whole;
        if (const auto* flag = std::get_if<bool>(&value)) whole = *flag ? 1 : 0;
        else if (const auto* number = std::get_if<std::int64_t>(&value)) whole = *number;
        else return;
        made.numbers[name] = static_cast<double>(whole), made.integers[name] = {whole};
    }

    secateur::Array kept(std::vector<float> numbers, const secateur::Shape& shape) {
        made_.floats.push_back(std::move(numbers));
        secateur::Array array;
        array.data = made_.floats.back().data(), array.shape = shape;
        return array;
    }

    secateur::Array kept(std::vector<std::int32_t> numbers, const secateur::Shape& shape) {
        made_.integers.push_back(std::move(numbers));
        secateur::Array array;
        array.integers = made_.integers.back().data(), array.shape = shape;
        return array;
    }

    // float32, int8 and int32 as they are.
    secateur::Array array_of(const Weight& weight) {
        secateur::Array array;
        array.shape = weight.shape;
        if (weight.dtype == "float32") array.data = weight.as<float>().data();
        else if (weight.dtype == "int8") array.bytes = weight.as<std::int8_t>().data();
        else if (weight.dtype == "int32") array.integers = weight.as<std::int32_t>().data();
        else if (weight.dtype == "int64") return kept(clipped(weight), weight.shape);
        else return kept(as_floats(weight), weight.shape);
        return array;
    }

    static std::vector<std::int32_t> clipped(const Weight& weight) {
        using Limits = std::numeric_limits<std::int32_t>;
        std::vector<std::int32_t> made;
        for (std::int64_t each : weight.as<std::int64_t>())
            made.push_back(static_cast<std::int32_t>(std::clamp<std::int64_t>(each, Limits::min(), Limits::max())));
        return made;
    }

    // ---- Factors of eight bits ------------------------------------------------------------------------------------

    static bool starts_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

    void work_out(const Node& node, secateur::Node& made) {
        if (node.op == "resize") return work_out_taps(node, made);
        if (node.op != "quantise" && node.op != "dequantise" && !starts_with(node.op, "quantised_")) return;
        drop_signs(node, made);
        const auto number = [&](const char* name, double value) { made.numbers[name] = value; };
        if (node.op == "quantise")
            number("inverse", static_cast<double>(1.0f / static_cast<float>(node.number("scale"))));
        else if (node.op == "dequantise") number("scale", in_single(node.number("scale")));
        else if (node.op == "quantised_conv2d" || node.op == "quantised_linear") work_out_layer(node, made);
        else if (node.op == "quantised_add")
            number("left_factor", ratio(node, {"left_scale"})), number("right_factor", ratio(node, {"right_scale"}));
        else if (node.op == "quantised_mul") number("left_factor", ratio(node, {"left_scale", "right_scale"}));
        else if (node.op == "quantised_table") work_out_table(node, made);
        else
            for (const char* name : {"input_scale", "output_scale"}) number(name, in_single(node.number(name)));
    }

    // Zero points and bounds as numbers of eight bits without a sign have them.
    void drop_signs(const Node& node, secateur::Node& made) const {
        const auto shift = [&](const std::string& name) {
            if (made.integers.count(name) == 0) return;
            const std::int64_t value = node.whole(name) + kHalf;
            made.integers[name] = {value}, made.numbers[name] = static_cast<double>(value);
        };
        const bool quantises = node.op == "quantise";
        if (element(node.name) == "int8")
            for (const char* name : {"output_zero_point", "low", "high"}) shift(name);
        if (quantises && element(node.name) == "int8") shift("zero_point");
        if (quantises) return;
        const auto is_signed = [&](std::size_t place) {
            return place < node.inputs.size() && element(node.inputs[place]) == "int8";
        };
        if (is_signed(0))
            for (const char* name : {"zero_point", "input_zero_point", "left_zero_point"}) shift(name);
        if (is_signed(1))
            for (const char* name : {"right_zero_point", "residual_zero_point"}) shift(name);
    }

    static double ratio(const Node& node, std::initializer_list<const char*> scales) {
        double product = 1;
        for (const char* name : scales) product *= in_single(node.number(name));
        return static_cast<double>(multiplier(product, in_single(node.number("output_scale"))));
    }

    void work_out_layer(const Node& node, secateur::Node& made) {
        const double input = in_single(node.number("input_scale")), output = in_single(node.number("output_scale"));
        std::vector<float> multipliers;
        for (float scale : weights_.at(node.weights.at("scale")).as<float>())
            multipliers.push_back(multiplier(input * static_cast<double>(scale), output));
        const secateur::Shape shape = made.weights.at("scale").shape;
        made.weights.erase("scale");
        made.weights["multiplier"] = kept(std::move(multipliers), shape);
        made.numbers["residual_factor"] = ratio(node, {"residual_scale"});
    }

    void work_out_table(const Node& node, secateur::Node& made) {
        std::vector<std::int32_t> table;
        for (std::int32_t each : weights_.at(node.weights.at("table")).as<std::int32_t>())
            table.push_back(each + static_cast<std::int32_t>(node.text("element") == "int8" ? kHalf : 0));
        made.integers.clear(), made.numbers.clear(), made.texts.clear();
        made.weights["table"] = kept(std::move(table), {256});
    }

    void work_out_taps(const Node& node, secateur::Node& made) {
        const Shape &old = shape_of(node.inputs[0]), &size = node.sizes("size");
        made.integers.clear(), made.numbers.clear(), made.texts.clear();
        for (std::size_t place = 0; place < size.size(); ++place) {
            Taps taps = taps_of(node, place, old[old.size() - size.size() + place].whole());
            const secateur::Shape shape{taps.count, size[place].whole()};
            made.weights["sources " + std::to_string(place)] = kept(std::move(taps.sources), shape);
            made.weights["shares " + std::to_string(place)] = kept(std::move(taps.shares), shape);
        }
    }

    const Graph& graph_;
    const Checked& checked_;
    const Weights& weights_;
    std::unordered_map<std::string, std::string> elements_;  // of values, those that are spelt out too
    std::unordered_map<std::string, int> index_;
    Entries made_;
};

}  // namespace

Entries entries_of(const Graph& graph, const Checked& checked, const Weights& weights) {
    return Writing(graph, checked, weights).all();
}

std::vector<float> constant_of(const Node& node, const Weights& weights) {
    if (node.op == "constant") return as_floats(weights.at(node.weights.at("value")));
    const auto count = static_cast<std::size_t>(product_of(node.shape).whole());
    if (node.op == "fill") return std::vector<float>(count, static_cast<float>(node.number("value")));
    if (node.op != "range")
        throw Unsupported("node " + quoted(node.name) + " (" + node.op +
                          "): this library does not know the operation; run the file in Python");
    std::vector<float> made;
    for (std::size_t i = 0; i < count; ++i)
        made.push_back(static_cast<float>(node.number("start") + node.number("step") * static_cast<double>(i)));
    return made;
}

}  // namespace secateur::packfile
