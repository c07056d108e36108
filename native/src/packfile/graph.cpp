#include "graph.hpp"

#include <algorithm>

#include "declared.hpp"
#include "failure.hpp"

namespace secateur::packfile {

double Node::number(const std::string& wanted) const {
    const Attribute& value = attributes.at(wanted);
    if (const auto* whole = std::get_if<std::int64_t>(&value)) return static_cast<double>(*whole);
    return std::get<double>(value);
}

std::int64_t Node::whole(const std::string& wanted) const { return std::get<std::int64_t>(attributes.at(wanted)); }

std::int64_t Stored::count() const {
    std::int64_t product = 1;
    for (std::int64_t size : shape)
        product = size == 0 ? 0 : product * size;  // sizes that were read are bounded, 0 left out
    return product;
}

namespace {

void names_into(const Shape& shape, std::set<std::string>& names) {
    for (const Size& each : shape) each.names_into(names);
}

void names_into(const Attribute& value, std::set<std::string>& names) {
    if (const auto* size = std::get_if<Size>(&value)) size->names_into(names);
    if (const auto* sizes = std::get_if<Shape>(&value)) names_into(*sizes, names);
}

Shape shape_at(const std::string& value, const Shape& shape, const Lengths& lengths) {
    Shape found;
    for (const Size& each : shape) found.push_back(each.at(lengths));
    const bool good = std::all_of(found.begin(), found.end(), [](const Size& each) { return each.at_least(0); });
    if (!good)
        throw GraphError("value " + quoted(value) + " of shape " + text_of(shape) + " would be " + text_of(found) +
                         ": expected longer ones");
    return found;
}

Attribute attribute_at(const Attribute& value, const Lengths& lengths) {
    if (const auto* size = std::get_if<Size>(&value)) return size->at(lengths);
    const auto* sizes = std::get_if<Shape>(&value);
    if (sizes == nullptr) return value;
    Shape found;
    for (const Size& each : *sizes) found.push_back(each.at(lengths));
    return found;
}

std::string listed(const std::set<std::string>& names) {
    std::string text;
    for (const std::string& each : names) text += (text.empty() ? "" : ", ") + each;
    return text.empty() ? "none" : text;
}

}  // namespace

std::set<std::string> Graph::lengths() const {
    std::set<std::string> names;
    for (const Input& each : inputs) names_into(each.shape, names);
    for (const Node& node : nodes) {
        names_into(node.shape, names);
        for (const auto& [name, value] : node.attributes) names_into(value, names);
    }
    return names;
}

std::optional<std::int64_t> Graph::images() const {
    if (signature && signature->images) return signature->images;
    for (const Node& node : nodes)
        if (find_operation(node.op)->ordinary >= 0)
            if (const auto* count = std::get_if<std::int64_t>(&node.attributes.at("images"))) return *count;
    return std::nullopt;
}

std::vector<std::string> Graph::output_names() const {
    std::vector<std::string> found;
    for (std::size_t place = 0; place < outputs.size(); ++place) {
        const bool alone = std::count(outputs.begin(), outputs.end(), outputs[place]) == 1;
        found.push_back(alone ? outputs[place] : "output_" + std::to_string(place));
        if (!signature) continue;
        const auto said = signature->output_names.find(static_cast<std::int64_t>(place));
        if (said != signature->output_names.end() && !said->second.empty()) found.back() = said->second;
    }
    return found;
}

Graph Graph::at(const Lengths& given) const {
    std::set<std::string> names;
    for (const auto& [name, length] : given) {
        names.insert(name);
        if (length < 0 || length > kMostLength) throw GraphError(name + ": expected a whole number from 0 on");
    }
    if (names != lengths()) throw GraphError("lengths " + listed(names) + ": expected " + listed(lengths()));
    if (signature)
        for (const auto& [name, most] : signature->most)
            if (const auto found = given.find(name); found != given.end() && found->second > most)
                throw GraphError(name + " " + std::to_string(found->second) + ": expected " + std::to_string(most) +
                                 " at most, as the network takes no longer ones");
    Graph bound = *this;
    for (Input& each : bound.inputs) each.shape = shape_at(each.name, each.shape, given);
    for (Node& node : bound.nodes) {
        node.shape = shape_at(node.name, node.shape, given);
        for (auto& [name, value] : node.attributes) value = attribute_at(value, given);
    }
    return bound;
}

}  // namespace secateur::packfile
