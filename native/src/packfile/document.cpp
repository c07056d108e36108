#include "document.hpp"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "declared.hpp"
#include "failure.hpp"
#include "json.hpp"

namespace secateur::packfile {
namespace {

constexpr std::size_t kMostText = 64 << 20, kMostSizes = 1 << 12;
constexpr std::int64_t kMostElements = 1 << 28;  // of a value in the graph, per image
constexpr int kDeepest = 16;                     // containers in each other

// Reads sizes, each text once: who may ask for any number of them may ask for any time.
class Sizes {
   public:
    // Of a value; what is whole of it is no larger than a value may be.
    Shape shape(const Json& value) {
        Shape found;
        std::int64_t nonzero = 1, elements = 1;
        for (const Json& each : value.items()) {
            found.push_back(size(each));
            if (!found.back().is_whole()) continue;
            const std::int64_t whole = found.back().whole();
            if (whole > kMostSize / nonzero)
                throw FormatError("its description has a shape larger than anything that could be meant");
            nonzero *= std::max<std::int64_t>(whole, 1), elements *= whole;
        }
        if (found.size() > kMostDimensions)
            throw FormatError("its description has " + std::to_string(found.size()) +
                              " sizes where at most 8 are expected");
        if (elements > kMostElements)
            throw FormatError("its description has a value of shape " + text_of(found) +
                              ": more than 268435456 elements");
        return found;
    }

    Size size(const Json& value) {
        if (!value.is_text()) return value.whole();
        if (const auto known = known_.find(value.text()); known != known_.end()) return known->second;
        if (known_.size() >= kMostSizes)
            throw FormatError("its description has more than 4096 different sizes with names");
        const Size size = Size::parse(value.text());
        if (size.is_whole() || size.text() != value.text())
            throw FormatError("its description has a size written " + quoted(value.text()) + ": expected " +
                              size.text());
        return known_[value.text()] = size;
    }

   private:
    std::unordered_map<std::string, Size> known_;
};

// ---- Signatures -------------------------------------------------------------------------------------------------

constexpr std::size_t kMostNamed = 1 << 10, kMostName = 512;

// The places of a tree's values, and where the last of each place is, as in `hidden_states.0`: of a name only so much, and
// of places so many, as anybody could mean.
struct Leaves {
    std::vector<std::int64_t> places;
    std::map<std::int64_t, std::string> names;

    void add(std::int64_t place, const std::string& name) {
        places.push_back(place);
        if (names.size() < kMostNamed || names.count(place) > 0) names[place] = name;
    }
};

std::string below(const std::string& name, const std::string& key) {
    return (name.empty() ? key : name + "." + key).substr(0, kMostName);
}

void demand(bool holds, const char* what) {
    if (!holds) throw FormatError(std::string("its description has ") + what);
}

bool is_field(const std::string& name) {
    const auto letter = [](char c) {
        return static_cast<unsigned char>(c) >= 0x80 || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    return !name.empty() && letter(name[0]) && name[0] != '_' && !is_keyword(name) &&
           std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

const std::vector<Json>& pair_of(const Json& value) {
    demand(value.items().size() == 2, "a signature of lists that are no pairs");
    return value.items();
}

std::string key_of(const Json& value) {
    return value.is_whole() ? std::to_string(value.whole(kMostSize, -kMostSize)) : value.text();
}

void read_value(const Json& value, const std::string& name, Leaves& leaves) {
    value.with_fields({"value"}, {"batch", "rows"});
    if (const Json* rows = value.find("rows")) demand(rows->is_flag(), "rows that are neither true nor false");
    if (const Json* batch = value.find("batch"); batch != nullptr && !batch->is_null())
        batch->whole(static_cast<std::int64_t>(kMostDimensions));
    leaves.add(value["value"].whole(), name);
}

void read_tree(const Json& value, const std::string& name, Leaves& leaves, int depth = 0);

void read_container(const Json& value, const std::string& name, Leaves& leaves, int depth) {
    value.with_fields({"kind", "parts"}, {"name"});
    const std::string& kind = value["kind"].text();
    const bool known = kind == "tuple" || kind == "list" || kind == "dict" || kind == "named tuple" || kind == "record";
    demand(known, "a container of a kind that there is not");
    const bool fields = kind == "named tuple";
    const Json* own = value.find("name");
    const std::string own_name = own == nullptr ? "" : own->text();
    demand(!fields || is_field(own_name), "a named tuple whose name is none");
    std::unordered_set<std::string> seen;
    for (const Json& each : value["parts"].items()) {
        const auto& pair = pair_of(each);
        const std::string key = key_of(pair[0]);
        demand(seen.insert((pair[0].is_whole() ? "#" : "=") + key).second, "a container with a key twice");
        demand(!fields || (pair[0].is_text() && is_field(key)), "a named tuple with a field that is no name");
        read_tree(pair[1], below(name, key), leaves, depth + 1);
    }
}

void read_tree(const Json& value, const std::string& name, Leaves& leaves, int depth) {
    if (value.is_whole()) {
        leaves.add(value.whole(), name);
        return;
    }
    demand(depth <= kDeepest, "a signature with more than 16 containers in each other");
    if (value.find("value") != nullptr) return read_value(value, name, leaves);
    if (const Json* fixed = value.find("is")) {
        value.with_fields({"is"});
        if (!fixed->is_null() && !fixed->is_flag() && !fixed->is_whole() && !fixed->is_real()) fixed->text();
        return;
    }
    read_container(value, name, leaves, depth);
}

Signature read_signature(const Json& value) {
    value.with_fields({"arguments", "outputs"}, {"images", "most"});
    Signature found;
    Leaves inputs, outputs;
    for (const Json& each : value["arguments"].items()) {
        found.arguments.push_back(pair_of(each)[0].text());
        read_tree(each.items()[1], "", inputs);
    }
    const Json& tree = value["outputs"];
    read_tree(tree, "", outputs);
    found.inputs = std::move(inputs.places), found.outputs = std::move(outputs.places);
    const bool nested = !tree.is_whole() && tree.find("kind") != nullptr;
    const bool counted = nested && (tree["kind"].text() == "tuple" || tree["kind"].text() == "list");
    if (!counted) found.output_names = std::move(outputs.names);
    if (const Json* images = value.find("images")) found.images = images->whole();
    if (const Json* most = value.find("most"))
        for (const Json& each : most->items())
            found.most.emplace_back(pair_of(each)[0].text(), each.items()[1].whole());
    return found;
}

// ---- The rest ---------------------------------------------------------------------------------------------------

Metadata read_metadata(const Json& value) {
    Metadata found;
    const auto numbers = [&](const char* name) {
        std::vector<double> all;
        if (const Json* held = value.find(name))
            for (const Json& each : held->items()) all.push_back(each.number());
        return all;
    };
    found.mean = numbers("mean"), found.std = numbers("std");
    const bool positive = std::all_of(found.std.begin(), found.std.end(), [](double each) { return each > 0; });
    demand(positive && found.mean.size() == found.std.size(),
           "mean and std: expected as many of both, and std above 0");
    if (const Json* classes = value.find("classes")) found.classes = classes->texts();
    value["producer"].text();
    return found;
}

// A text is a size where the operation takes one.
Attribute read_attribute(const Declared* op, const std::string& name, const Json& value, Sizes& sizes) {
    const DeclaredAttribute* taken = op == nullptr ? nullptr : op->attribute(name);
    const auto takes = [&](Range::Kind kind) { return taken != nullptr && taken->range.kind == kind; };
    if (value.is_list()) {
        const auto& items = value.items();
        const auto end = items.begin() + static_cast<std::ptrdiff_t>(std::min(items.size(), kMostDimensions + 1));
        if (takes(Range::Kind::kReals)) {
            std::vector<double> found;
            for (auto each = items.begin(); each != end; ++each) found.push_back(each->number());
            return found;
        }
        std::vector<Size> found;
        for (auto each = items.begin(); each != end; ++each) found.push_back(sizes.size(*each));
        return found;
    }
    if (value.is_text() && takes(Range::Kind::kExtent)) return sizes.size(value);
    if (value.is_text()) return value.text();
    if (value.is_flag()) return value.flag();
    if (value.is_real()) return value.number();
    return value.whole(kMostSize, -kMostSize);
}

Node read_node(const Json& value, Sizes& sizes) {
    value.with_fields({"name", "op", "inputs", "shape"}, {"weights", "attributes", "source"});
    Node found;
    found.name = value["name"].text(), found.op = value["op"].text();
    found.inputs = value["inputs"].texts();
    if (const Json* weights = value.find("weights"))
        for (const auto& [role, name] : weights->fields()) found.weights[role] = name.text();
    const Declared* op = find_operation(found.op);
    if (const Json* attributes = value.find("attributes"))
        for (const auto& [name, each] : attributes->fields())
            found.attributes.emplace(name, read_attribute(op, name, each, sizes));
    found.shape = sizes.shape(value["shape"]);
    if (const Json* source = value.find("source")) found.source = source->text();
    return found;
}

Stored read_stored(const Json& value) {
    value.with_fields({"name", "dtype", "shape", "codec", "bytes"}, {"error"});
    Stored found;
    found.name = value["name"].text(), found.dtype = value["dtype"].text();
    const Format* format = find_format(found.dtype);
    if (format == nullptr || !format->weighs)
        throw FormatError("a weight of dtype " + quoted(found.dtype) + ": expected one that weights have");
    if (const Json* error = value.find("error"); error != nullptr && error->number() < 0)
        throw FormatError("a weight with a largest error below 0: expected 0 or more");
    found.shape = read_shape(value["shape"]);
    found.codec = value["codec"].whole(), found.bytes = value["bytes"].whole();
    return found;
}

void read_inputs(const Json& value, Sizes& sizes, Graph& graph) {
    if (const Json* elements = value.find("elements"))
        for (const auto& [name, element] : elements->fields()) {
            demand(element.text() != "float32", "elements that are float32, which goes without saying");
            graph.elements[name] = element.text();
        }
    for (const auto& [name, shape] : value["inputs"].fields()) graph.inputs.push_back({name, sizes.shape(shape)});
}

}  // namespace

Document read_document(Bytes squeezed) {
    const Json value = Json::parse(inflate(squeezed, kDictionary, kMostText));
    value.with_fields({"producer", "inputs", "outputs", "nodes", "weights"},
                      {"mean", "std", "classes", "elements", "signature"});
    Sizes sizes;
    Document found;
    found.metadata = read_metadata(value);
    read_inputs(value, sizes, found.graph);
    found.graph.outputs = value["outputs"].texts();
    for (const Json& each : value["nodes"].items()) found.graph.nodes.push_back(read_node(each, sizes));
    for (const Json& each : value["weights"].items()) found.graph.weights.push_back(read_stored(each));
    if (const Json* signature = value.find("signature")) found.graph.signature = read_signature(*signature);
    return found;
}

}  // namespace secateur::packfile
