#include "shapes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <unordered_map>

#include "eight_bits.hpp"
#include "failure.hpp"

namespace secateur::packfile {
namespace {

constexpr std::int64_t kMostPadding = 4096, kMostStep = 1 << 24, kMostPixels = 1 << 22;
constexpr std::int64_t kMostSummed = kLargestSum / kFarthest;
constexpr std::size_t kMostResized = 3;

using Rule = Shape (*)(const Arguments&);

// ---- Attributes -------------------------------------------------------------------------------------------------

const std::int64_t* as_whole(const Attribute& value) { return std::get_if<std::int64_t>(&value); }

bool is_number(const Attribute& value, const Range& range) {
    double number;
    if (const auto* real = std::get_if<double>(&value)) number = *real;
    else if (const auto* whole = as_whole(value)) number = static_cast<double>(*whole);
    else return false;
    return std::isfinite(number) && number >= range.least && number <= range.most && number > range.above;
}

bool is_size(const Attribute& value, const Size& least, const Size* most) {
    if (!std::holds_alternative<std::int64_t>(value) && !std::holds_alternative<Size>(value)) return false;
    const Size size = as_whole(value) ? Size(*as_whole(value)) : std::get<Size>(value);
    return size.at_least(least) && (most == nullptr || most->at_least(size));
}

bool are_sizes(const Attribute& value, std::int64_t least, int length, bool named) {
    const auto* sizes = std::get_if<std::vector<Size>>(&value);
    return sizes != nullptr && (length < 0 || sizes->size() == static_cast<std::size_t>(length)) &&
           std::all_of(sizes->begin(), sizes->end(),
                       [&](const Size& each) { return (named || each.is_whole()) && each.at_least(least); });
}

// An empty list is one of numbers and of sizes.
bool are_numbers(const Attribute& value, const Range& range) {
    const auto* numbers = std::get_if<std::vector<double>>(&value);
    return numbers != nullptr &&
           std::all_of(numbers->begin(), numbers->end(), [&](double each) { return is_number(each, range); });
}

bool is_within(const Attribute& value, const Range& range) {
    const auto least = static_cast<std::int64_t>(std::max(range.least, -1e15));
    switch (range.kind) {
        case Range::Kind::kReal: return is_number(value, range);
        case Range::Kind::kReals: return are_numbers(value, range);
        case Range::Kind::kWhole:
            return as_whole(value) && *as_whole(value) >= least &&
                   (range.most < 0 || *as_whole(value) <= static_cast<std::int64_t>(range.most));
        case Range::Kind::kWholes: return are_sizes(value, least, range.length, false);
        case Range::Kind::kExtent: return is_size(value, 0, nullptr);
        case Range::Kind::kExtents: return are_sizes(value, 0, -1, true);
        case Range::Kind::kChoice: {
            const auto* text = std::get_if<std::string>(&value);
            return text && std::find(range.texts.begin(), range.texts.end(), *text) != range.texts.end();
        }
        case Range::Kind::kFlag: return std::holds_alternative<bool>(value);
    }
    return false;
}

}  // namespace

void Arguments::refuse(const std::string& expected) const {
    throw GraphError("node " + quoted(node.name) + " (" + node.op + "): expected " + expected);
}

void Arguments::check_attributes() const {
    for (const auto& each : operation.attributes) read(each.name);
}

const Attribute& Arguments::read(std::string_view name) const {
    const Attribute& value = node.attributes.at(std::string(name));
    demand(is_within(value, operation.attribute(name)->range), std::string(name) + " to be as docs/format.md has it");
    return value;
}

const Shape& Arguments::numbers(std::string_view name, std::size_t length) const {
    const Shape& found = std::get<Shape>(read(name));
    demand(length == 0 || found.size() == length,
           std::string(name) + " to be " + std::to_string(length) + " whole numbers");
    return found;
}

std::int64_t Arguments::whole(std::string_view name, std::int64_t least, std::int64_t most) const {
    const auto* value = as_whole(node.attributes.at(std::string(name)));
    demand(value && *value >= least && *value <= most,
           std::string(name) + " in [" + std::to_string(least) + ", " + std::to_string(most) + "]");
    return *value;
}

Size Arguments::extent(std::string_view name, const Size& least, const Size& most) const {
    const Attribute& value = node.attributes.at(std::string(name));
    demand(is_size(value, least, &most), std::string(name) + " in [" + least.text() + ", " + most.text() + "]");
    return as_whole(value) ? Size(*as_whole(value)) : std::get<Size>(value);
}

double Arguments::number(std::string_view name) const {
    read(name);
    return node.number(std::string(name));
}

const Shape& Arguments::planes() const {
    demand(shape().size() == 3, "an input (C, H, W)");
    return shape();
}

void Arguments::weight(const std::string& role, const Shape& expected) const {
    const auto found = weights.find(role);
    demand(found == weights.end() || found->second == expected, role + " of shape " + text_of(expected));
}

namespace {

std::int64_t rank_of(const Shape& shape) { return static_cast<std::int64_t>(shape.size()); }

Shape part_of(const Shape& shape, std::int64_t begin, std::int64_t end) {
    return {shape.begin() + begin, shape.begin() + end};
}

Shape front(const Shape& shape, std::int64_t less) { return part_of(shape, 0, rank_of(shape) - less); }
const Size& last(const Shape& shape, std::size_t place = 1) { return shape[shape.size() - place]; }

Shape joined(Shape shape, const Shape& more) {
    shape.insert(shape.end(), more.begin(), more.end());
    return shape;
}

Shape with(Shape shape, std::int64_t axis, const Size& size) {
    shape[static_cast<std::size_t>(axis - 1)] = size;
    return shape;
}

Shape without(Shape shape, std::int64_t axis) {
    shape.erase(shape.begin() + (axis - 1));
    return shape;
}

std::int64_t axis_of(const Arguments& given) { return given.whole("axis", 1, rank_of(given.shape())); }
const Size& along(const Shape& shape, std::int64_t axis) { return shape[static_cast<std::size_t>(axis - 1)]; }

// ---- Rules of one number at a time, and of axes -----------------------------------------------------------------

Shape same(const Arguments& given) {
    given.check_attributes();
    return given.shape();
}

Shape along_axis(const Arguments& given) {
    axis_of(given);
    return given.shape();
}

Shape broadcast_of(const Arguments& given, const std::vector<Shape>& shapes) {
    std::size_t rank = 0;
    for (const Shape& each : shapes) rank = std::max(rank, each.size());
    Shape made(rank, Size(1));
    for (const Shape& shape : shapes)
        for (std::size_t i = 0; i < shape.size(); ++i) {
            Size& held = made[rank - shape.size() + i];
            if (shape[i] == Size(1) || shape[i] == held) continue;
            given.demand(held == Size(1), "shapes that broadcast");
            held = shape[i];
        }
    return made;
}

Shape broadcast(const Arguments& given) {
    given.check_attributes();
    return broadcast_of(given, given.shapes);
}

Shape reduction(const Arguments& given) {
    const Shape &shape = given.shape(), &axes = given.numbers("axes");
    std::set<std::int64_t> chosen;
    for (const Size& axis : axes) chosen.insert(axis.whole());
    const bool good = !axes.empty() && chosen.size() == axes.size() && *chosen.rbegin() <= rank_of(shape);
    given.demand(good, "different axes of " + std::to_string(shape.size()) + " (the batch is axis 0)");
    for (std::int64_t axis : chosen) given.demand(along(shape, axis).at_least(1), "axes that are not empty");
    const bool keep = given.flag("keepdims");
    Shape kept;
    for (std::int64_t axis = 1; axis <= rank_of(shape); ++axis)
        if (chosen.count(axis) == 0) kept.push_back(along(shape, axis));
        else if (keep) kept.push_back(1);
    return kept;
}

Shape reshape(const Arguments& given) {
    const Shape& shape = std::get<Shape>(given.read("shape"));
    given.demand(product_of(shape) == product_of(given.shape()), "as many elements as " + text_of(given.shape()));
    return shape;
}

Shape permute(const Arguments& given) {
    const Shape& shape = given.shape();
    // Of a list without a length, of which 0 would mean any.
    const Shape& axes = given.numbers("axes");
    given.demand(axes.size() == shape.size(), "each axis once (the batch stays axis 0)");
    std::set<std::int64_t> seen;
    Shape made;
    for (const Size& axis : axes) {
        const std::int64_t place = axis.whole();
        given.demand(place <= rank_of(shape) && seen.insert(place).second, "each axis once (the batch stays axis 0)");
        made.push_back(along(shape, place));
    }
    return made;
}

Shape concat(const Arguments& given) {
    const std::int64_t axis = axis_of(given);
    Size size = 0;
    for (const Shape& each : given.shapes) {
        given.demand(each.size() == given.shape().size() && without(each, axis) == without(given.shape(), axis),
                     "shapes that differ in axis " + std::to_string(axis) + " only");
        size = size + along(each, axis);
    }
    return with(given.shape(), axis, size);
}

Shape part(const Arguments& given) {
    const std::int64_t axis = axis_of(given);
    const Size& size = along(given.shape(), axis);
    const Size start = given.extent("start", 0, size), stop = given.extent("stop", start, size);
    return with(given.shape(), axis, stop - start);
}

Shape constant(const Arguments& given) { return given.weights.at("value"); }

Shape fill(const Arguments& given) {
    given.check_attributes();
    return given.node.sizes("shape");
}

Size size_in(const Attribute& value) { return as_whole(value) ? Size(*as_whole(value)) : std::get<Size>(value); }

Shape progression(const Arguments& given) {
    given.check_attributes();
    return {size_in(given.read("length"))};
}

Size images_of(const Arguments& given) {
    const Size images = size_in(given.read("images"));
    given.demand(images.is_whole() || images == Size::named("batch"), "images to be batch, or a whole number");
    return images;
}

Shape gather_images(const Arguments& given) { return joined({images_of(given)}, given.shape()); }

Shape scatter_images(const Arguments& given) {
    const Size images = images_of(given);
    given.demand(!given.shape().empty() && given.shape()[0] == images, "an ordinary value (" + images.text() + ", …)");
    return part_of(given.shape(), 1, rank_of(given.shape()));
}

// ---- Layers and windows -----------------------------------------------------------------------------------------

// Of a window that slides over padded planes; padding is (top, bottom, left, right).
Shape windows(const Arguments& given, const Size& channels, const Shape& kernel, const Shape& dilation) {
    const Shape &planes = given.planes(), &stride = given.numbers("stride"), &padding = given.numbers("padding");
    Shape made{channels};
    for (std::size_t axis = 0; axis < 2; ++axis) {
        const std::int64_t before = padding[2 * axis].whole(), after = padding[2 * axis + 1].whole();
        given.demand(std::max(before, after) <= kMostPadding, "padding of at most 4096");
        const std::int64_t step = stride[axis].whole(), apart = dilation[axis].whole();
        given.demand(std::max(step, apart) <= kMostStep, "a stride and a dilation of at most 16777216");
        const Size room =
            planes[axis + 1] + Size(before + after) - Size(product_of(apart, kernel[axis].whole() - 1)) - Size(1);
        given.demand(room.at_least(0), "a window no larger than the padded input");
        made.push_back(room.over(step) + Size(1));
    }
    return made;
}

Shape conv2d(const Arguments& given) {
    const Size channels = given.planes()[0];
    const Shape& weight = given.weights.at("weight");
    given.demand(weight.size() == 4 && weight[2].whole() > 0 && weight[3].whole() > 0,
                 "a weight (O, I/groups, kh, kw)");
    given.demand(channels.is_whole(), "a whole number of channels");
    const std::int64_t groups = given.whole("groups", 1, std::max<std::int64_t>(1, channels.whole()));
    const bool fits = channels.whole() == product_of(weight[1].whole(), groups) && weight[0].whole() % groups == 0;
    given.demand(fits, "a weight for " + channels.text() + " channels in " + std::to_string(groups) + " groups");
    given.weight("bias", {weight[0]});
    return windows(given, weight[0], part_of(weight, 2, 4), given.numbers("dilation"));
}

Shape linear(const Arguments& given) {
    const Shape &weight = given.weights.at("weight"), &shape = given.shape();
    const bool fits = weight.size() == 2 && !shape.empty() && last(shape) == weight[1];
    given.demand(fits, "a weight (O, I) for an input " + text_of(shape));
    given.weight("bias", {weight[0]});
    return joined(front(shape, 1), {weight[0]});
}

Shape batch_norm(const Arguments& given) {
    given.demand(!given.shape().empty(), "an input (C, …)");
    for (const char* role : {"mean", "variance", "weight", "bias"}) given.weight(role, {given.shape()[0]});
    given.check_attributes();
    return given.shape();
}

Shape layer_norm(const Arguments& given) {
    const Shape& shape = given.shape();
    const std::int64_t axes = given.whole("axes", 1, rank_of(shape));
    for (const char* role : {"weight", "bias"})
        given.weight(role, part_of(shape, rank_of(shape) - axes, rank_of(shape)));
    given.check_attributes();
    return shape;
}

void check_within_kernel(const Arguments& given, const Shape& kernel) {
    const Shape& padding = given.numbers("padding");
    for (std::size_t i = 0; i < 4; ++i)
        given.demand(padding[i].whole() < kernel[i / 2].whole(), "padding smaller than the kernel");
}

Shape max_pool2d(const Arguments& given) {
    const Shape& kernel = given.numbers("kernel");
    check_within_kernel(given, kernel);
    return windows(given, given.planes()[0], kernel, given.numbers("dilation"));
}

Shape avg_pool2d(const Arguments& given) {
    const Shape& kernel = given.numbers("kernel");
    check_within_kernel(given, kernel);
    given.read("count_include_pad");
    return windows(given, given.planes()[0], kernel, {1, 1});
}

Shape adaptive_avg_pool2d(const Arguments& given) {
    const Shape& planes = given.planes();
    given.demand(planes[1].at_least(1) && planes[2].at_least(1), "planes that are not empty");
    return joined({planes[0]}, given.numbers("size"));
}

// ---- Products and sequences -------------------------------------------------------------------------------------

Shape matmul(const Arguments& given) {
    const Shape &left = given.shapes[0], &right = given.shapes[1];
    given.demand(left.size() >= 2 && right.size() >= 2, "matrices (…, M, K) and (…, K, N)");
    const bool transposed = given.flag("transposed");
    given.demand(last(left) == last(right, transposed ? 1 : 2), "a right matrix for rows of " + last(left).text());
    return joined(broadcast_of(given, {front(left, 2), front(right, 2)}),
                  {last(left, 2), last(right, transposed ? 2 : 1)});
}

// Whether a shape broadcasts to another, without making it larger.
bool spreads(const Shape& shape, const Shape& to) {
    if (shape.size() > to.size()) return false;
    for (std::size_t i = 1; i <= shape.size(); ++i)
        if (last(shape, i) != Size(1) && last(shape, i) != last(to, i)) return false;
    return true;
}

Shape attention(const Arguments& given) {
    given.check_attributes();
    const Shape &query = given.shapes[0], &key = given.shapes[1], &value = given.shapes[2];
    given.demand(std::min({query.size(), key.size(), value.size()}) >= 3,
                 "queries (…, H, L, E), keys (…, G, S, E) and values (…, G, S, F)");
    const bool fits = last(key) == last(query) && last(value, 3) == last(key, 3) && last(value, 2) == last(key, 2);
    given.demand(fits, "keys (…, G, S, " + last(query).text() + ") and values (…, G, S, F)");
    const Size &heads = last(query, 3), &groups = last(key, 3);
    given.demand(heads.is_whole() && groups.is_whole(), "a whole number of heads");
    given.demand(groups.whole() > 0 && heads.whole() % groups.whole() == 0, "as many heads as divide " + heads.text());
    const Shape leading = broadcast_of(given, {front(query, 3), front(key, 3), front(value, 3)});
    const Shape queries = joined(leading, {heads, last(query, 2)}), scores = joined(queries, {last(key, 2)});
    given.demand(given.shapes.size() < 4 || spreads(given.shapes[3], scores),
                 "a mask that broadcasts to " + text_of(scores));
    return joined(queries, {last(value)});
}

Shape recurrence(const Arguments& given, std::int64_t gates) {
    given.check_attributes();
    const Shape &weight = given.weights.at("weight"), &steps = given.shape();
    given.demand(weight.size() == 2 && weight[0].whole() == product_of(gates, weight[1].whole()),
                 "a weight (gates · H, H)");
    given.demand(steps.size() >= 2 && last(steps) == weight[0], "steps (…, T, " + weight[0].text() + ")");
    given.weight("bias", {weight[0]});
    const Shape state = joined(front(steps, 2), {weight[1]});
    for (std::size_t i = 1; i < given.shapes.size(); ++i)
        given.demand(given.shapes[i] == state, "initial states " + text_of(state));
    return joined(front(steps, 1), {weight[1]});
}

Shape lstm(const Arguments& given) {
    given.demand(given.shapes.size() != 2, "initial states for both h and c, or none");
    const Shape made = recurrence(given, 4);
    return joined(front(made, 1), {last(made) * Size(2)});
}

Shape gru(const Arguments& given) { return recurrence(given, 3); }
Shape rnn(const Arguments& given) { return recurrence(given, 1); }

// ---- Picking and sampling ---------------------------------------------------------------------------------------

Shape take(const Arguments& given) {
    const std::int64_t axis = axis_of(given);
    const Shape& indices = given.weights.at("indices");
    given.demand(indices.size() == 1, "indices along one axis");
    return with(given.shape(), axis, indices[0]);
}

Shape embedding(const Arguments& given) {
    const Shape& table = given.weights.at("weight");
    given.demand(table.size() == 2, "a table (V, D)");
    return joined(given.shape(), {table[1]});
}

Shape gather(const Arguments& given) {
    const std::int64_t axis = axis_of(given);
    const Shape &shape = given.shapes[0], &indices = given.shapes[1];
    const bool fits = indices.size() == shape.size() && without(indices, axis) == without(shape, axis);
    given.demand(fits, "indices of a shape " + text_of(shape) + " but for axis " + std::to_string(axis));
    return indices;
}

// With so many places along the axis of the node, which has to have as many; none: the axis goes.
Shape picked(const Arguments& given, const Size& count, bool keep) {
    const std::int64_t axis = axis_of(given);
    given.demand(along(given.shape(), axis).at_least(count), "an axis of at least " + count.text());
    return keep ? with(given.shape(), axis, count) : without(given.shape(), axis);
}

Shape extreme(const Arguments& given) { return picked(given, 1, given.flag("keepdims")); }

Shape top(const Arguments& given) {
    given.check_attributes();
    return picked(given, size_in(given.read("count")), true);
}

Shape resize(const Arguments& given) {
    const Shape& shape = given.shape();
    const Shape& size = std::get<Shape>(given.read("size"));
    given.check_attributes();
    given.demand(!size.empty() && size.size() <= std::min(kMostResized, shape.size()),
                 "sizes for the last axes of " + text_of(shape));
    for (std::size_t i = 1; i <= size.size(); ++i) {
        given.demand(last(shape, i).at_least(1), "axes that are not empty");
        given.demand(Size(kMostPixels).at_least(last(size, i)), "at most 4194304 pixels an axis");
    }
    const std::size_t steps = given.node.reals("steps").size();
    given.demand(steps == 0 || steps == size.size(), "no steps, or " + std::to_string(size.size()));
    const bool aligned = given.flag("aligned"), exact = given.text("mode") == "linear" || given.text("mode") == "cubic";
    given.demand(exact || !aligned, "aligned corners in modes linear and cubic only");
    given.demand(!aligned || steps == 0, "no steps where corners are aligned");
    return joined(front(shape, static_cast<std::int64_t>(size.size())), size);
}

Shape grid_sample(const Arguments& given) {
    const Shape &planes = given.planes(), &grid = given.shapes[1];
    given.check_attributes();
    given.demand(grid.size() == 3 && grid[2] == Size(2), "a grid (H, W, 2)");
    given.demand(planes[1].at_least(1) && planes[2].at_least(1), "planes that are not empty");
    return {planes[0], grid[0], grid[1]};
}

// ---- Eight bits -------------------------------------------------------------------------------------------------

void check_within_element(const Arguments& given, std::initializer_list<const char*> names) {
    const auto [least, most] = bounds_of(given.text("element"));
    for (const char* name : names) given.whole(name, least, most);
}

// That results lie between `low` and `high`, as their format can.
void check_clamp(const Arguments& given) {
    check_within_element(given, {"output_zero_point", "low", "high"});
    given.demand(given.node.whole("low") <= given.node.whole("high"), "low up to high");
}

// That the product of scales is a multiple of the output's that float32 has.
void check_comparable(const Arguments& given, std::initializer_list<const char*> scales) {
    double product = 1;
    for (const char* name : scales) product *= in_single(given.number(name));
    given.demand(std::isfinite(multiplier(product, in_single(given.number("output_scale")))),
                 "scales whose ratio is a number of float32");
}

// That attributes without a meaning here have the numbers that do nothing.
void check_neutral(const Arguments& given, const char* scale, std::initializer_list<const char*> others) {
    given.demand(given.number(scale) == 1, std::string(scale) + " of 1");
    for (const char* name : others) given.whole(name, 0, 0);
}

Shape quantise(const Arguments& given) {
    given.check_attributes();
    check_within_element(given, {"zero_point"});
    return given.shape();
}

Shape quantised_layer(const Arguments& given, const Shape& made) {
    given.check_attributes();
    given.weight("scale", {given.weights.at("weight")[0]});
    given.demand(given.shapes.size() == 1 || given.shapes[1] == made, "a residual of shape " + text_of(made));
    const bool floating = given.text("element") == "float32";
    if (floating) check_neutral(given, "output_scale", {"output_zero_point", "low", "high"});
    else check_clamp(given);
    if (floating || given.shapes.size() == 1) check_neutral(given, "residual_scale", {"residual_zero_point"});
    check_comparable(given, {"residual_scale"});
    return made;
}

Shape quantised_conv2d(const Arguments& given) { return quantised_layer(given, conv2d(given)); }
Shape quantised_linear(const Arguments& given) { return quantised_layer(given, linear(given)); }

Shape quantised_add(const Arguments& given) {
    given.check_attributes();
    check_clamp(given);
    given.demand(given.shapes[0] == given.shapes[1], "two inputs of one shape");
    check_comparable(given, {"left_scale"});
    check_comparable(given, {"right_scale"});
    return given.shape();
}

Shape quantised_mul(const Arguments& given) {
    const Shape made = broadcast(given);
    check_clamp(given);
    check_comparable(given, {"left_scale", "right_scale"});
    return made;
}

Shape quantised_mean_of(const Arguments& given, const Shape& made, const Shape& window) {
    given.check_attributes();
    check_within_element(given, {"output_zero_point"});
    check_comparable(given, {"input_scale"});
    const Size summed = product_of(window);
    given.demand(!summed.is_whole() || summed.whole() <= kMostSummed,
                 "at most " + std::to_string(kMostSummed) + " numbers a mean");
    return made;
}

Shape quantised_avg_pool2d(const Arguments& given) {
    return quantised_mean_of(given, avg_pool2d(given), given.numbers("kernel"));
}

Shape quantised_adaptive_avg_pool2d(const Arguments& given) {
    const Shape made = adaptive_avg_pool2d(given);
    Shape widest;
    for (std::size_t i = 1; i < 3; ++i) {
        const std::int64_t windows = made[i].whole();
        widest.push_back(windows == 1 ? given.shape()[i] : given.shape()[i].over(windows) + Size(2));
    }
    return quantised_mean_of(given, made, widest);
}

Shape quantised_mean(const Arguments& given) {
    const Shape made = reduction(given);
    Shape window;
    for (const Size& axis : given.numbers("axes")) window.push_back(along(given.shape(), axis.whole()));
    return quantised_mean_of(given, made, window);
}

Shape tabulated(const Arguments& given) {
    given.check_attributes();
    given.weight("table", {256});
    check_within_element(given, {"output_zero_point"});
    const DeclaredFunction& function = *find_function(given.text("function"));
    const Declared& operation = *find_operation(function.op);
    const auto& parameters = given.node.reals("parameters");
    given.demand(parameters.size() == function.parameters.size(),
                 std::to_string(function.parameters.size()) + " parameters of " + std::string(function.op));
    for (std::size_t i = 0; i < parameters.size(); ++i)
        given.demand(is_within(parameters[i], operation.attribute(function.parameters[i])->range),
                     std::string(function.parameters[i]) + " to be as docs/format.md has it");
    return given.shape();
}

const std::unordered_map<std::string_view, Rule>& rules() {
    static const std::unordered_map<std::string_view, Rule> all = {
        {"same", same},
        {"along_axis", along_axis},
        {"broadcast", broadcast},
        {"reduction", reduction},
        {"reshape", reshape},
        {"permute", permute},
        {"concat", concat},
        {"part", part},
        {"constant", constant},
        {"fill", fill},
        {"progression", progression},
        {"gather_images", gather_images},
        {"scatter_images", scatter_images},
        {"conv2d", conv2d},
        {"linear", linear},
        {"batch_norm", batch_norm},
        {"layer_norm", layer_norm},
        {"max_pool2d", max_pool2d},
        {"avg_pool2d", avg_pool2d},
        {"adaptive_avg_pool2d", adaptive_avg_pool2d},
        {"matmul", matmul},
        {"attention", attention},
        {"lstm", lstm},
        {"gru", gru},
        {"rnn", rnn},
        {"take_shape", take},
        {"embedding_shape", embedding},
        {"gather_shape", gather},
        {"extreme_shape", extreme},
        {"top_shape", top},
        {"resize_shape", resize},
        {"grid_sample_shape", grid_sample},
        {"quantise", quantise},
        {"quantised_conv2d", quantised_conv2d},
        {"quantised_linear", quantised_linear},
        {"quantised_add", quantised_add},
        {"quantised_mul", quantised_mul},
        {"quantised_avg_pool2d", quantised_avg_pool2d},
        {"quantised_adaptive_avg_pool2d", quantised_adaptive_avg_pool2d},
        {"quantised_mean", quantised_mean},
        {"tabulated", tabulated}};
    return all;
}

void check_parts_of(const Arguments& given) {
    const Declared& declared = given.operation;
    const auto inputs = static_cast<int>(given.shapes.size());
    const bool many =
        declared.inputs < 0 ? inputs >= 1 : inputs >= declared.inputs && inputs <= declared.inputs + declared.more;
    given.demand(many, "another number of inputs than " + std::to_string(inputs));
    for (const auto& [role, shape] : given.weights)
        given.demand(declared.weight(role) != nullptr, "no weight " + quoted(role));
    for (const auto& each : declared.weights)
        given.demand(each.optional || given.weights.count(std::string(each.role)) > 0,
                     "weights with a " + std::string(each.role));
    bool named = given.node.attributes.size() == declared.attributes.size();
    for (const auto& each : declared.attributes)
        named = named && given.node.attributes.count(std::string(each.name)) > 0;
    given.demand(named, "the attributes that docs/format.md says");
}

}  // namespace

Shape infer_shape(const Declared& operation, const Node& node, const std::vector<Shape>& inputs,
                  const WeightShapes& weights) {
    const Arguments given(operation, node, inputs, weights);
    check_parts_of(given);
    const auto rule = rules().find(operation.rule);
    if (rule == rules().end())
        throw Unsupported("node " + quoted(node.name) + " (" + node.op +
                          "): this library does not know the operation; run the file in Python");
    return rule->second(given);
}

}  // namespace secateur::packfile
