// Lookups, picked indices, orders, choices, reductions and resizing of every kernel, against plain loops.
#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "secateur/cpu.hpp"
#include "secateur/session.hpp"

using secateur::Array;
using secateur::Network;
using secateur::Node;

namespace {

using Floats = std::vector<float>;
using Wholes = std::vector<std::int32_t>;

constexpr std::int64_t kImages[] = {1, 2, 16, 35};

std::mt19937 generator(17);

Floats normal(std::int64_t count) {
    std::normal_distribution<float> value(0.0f, 1.0f);
    Floats values(static_cast<std::size_t>(count));
    for (float& each : values) each = value(generator);
    return values;
}

Floats wholes_below(std::int64_t count, int below) {
    Floats values(static_cast<std::size_t>(count));
    for (float& each : values) each = static_cast<float>(std::uniform_int_distribution<int>(0, below - 1)(generator));
    return values;
}

Array array(const Floats& values, secateur::Shape shape) { return {values.data(), std::move(shape), nullptr, nullptr}; }
Array array(const Wholes& values, secateur::Shape shape) { return {nullptr, std::move(shape), nullptr, values.data()}; }

Floats run(const Network& network, const secateur::Kernels& kernels, const std::vector<Floats>& inputs,
           std::int64_t images) {
    secateur::Session session(network, kernels, {}, 1);
    std::vector<const void*> from;
    for (const Floats& each : inputs) from.push_back(each.data());
    Floats made(static_cast<std::size_t>(images * secateur::elements(network.nodes.back().shape)), NAN);
    void* to = made.data();
    session.run(from.data(), &to, images);
    return made;
}

// right: what one number of the output is, of an image and at a place in it.
template <typename Right>
void check_every_kernel(const Network& network, const std::vector<Floats>& inputs, std::int64_t images,
                        const Right& right) {
    const std::int64_t each = secateur::elements(network.nodes.back().shape);
    for (const auto* kernels : secateur::runnable_kernels()) {
        const Floats found = run(network, *kernels, inputs, images);
        bool near = true;
        for (std::int64_t i = 0; i < images * each; ++i) {
            const double expected = right(i / each, i % each);
            near = near && std::abs(found[static_cast<std::size_t>(i)] - expected) <= 1e-5 * (1 + std::abs(expected));
        }
        CHECK(near);
    }
}

}  // namespace

TEST(rows_of_a_table_are_those_of_their_numbers) {
    const Floats table = normal(7 * 5);
    const Network network{
        {{3}}, {{"e", "embedding", {0}, {{"weight", array(table, {7, 5})}}, {}, {}, {}, {3, 5}}}, {1}};
    for (std::int64_t images : kImages) {
        const Floats ids = wholes_below(images * 3, 7);
        check_every_kernel(network, {ids}, images, [&](std::int64_t image, std::int64_t i) {
            return table[static_cast<std::size_t>(ids[static_cast<std::size_t>(image * 3 + i / 5)]) * 5 +
                         static_cast<std::size_t>(i % 5)];
        });
        for (float wrong : {7.0f, -1.0f, NAN}) {
            Floats odd = ids;
            odd.back() = wrong;
            bool refused = false;
            try {
                run(network, *secateur::runnable_kernels().front(), {odd}, images);
            } catch (const std::out_of_range&) {
                refused = true;
            }
            CHECK(refused);
        }
    }
}

TEST(indices_are_picked_along_any_axis) {
    const Wholes indices{3, 0, 3, 1};
    for (std::int64_t axis : {0, 1, 2}) {
        const std::int64_t dims[] = {4, 5, 6};
        secateur::Shape shape{4, 5, 6};
        shape[static_cast<std::size_t>(axis)] = 4;
        const Network network{
            {{4, 5, 6}},
            {{"t", "take", {0}, {{"indices", array(indices, {4})}}, {{"axis", {axis + 1}}}, {}, {}, shape}},
            {1}};
        for (std::int64_t images : kImages) {
            const Floats x = normal(images * 120);
            check_every_kernel(network, {x}, images, [&](std::int64_t image, std::int64_t i) {
                std::int64_t at[] = {i / (shape[1] * shape[2]), i / shape[2] % shape[1], i % shape[2]};
                at[axis] = indices[static_cast<std::size_t>(at[axis])];
                return x[static_cast<std::size_t>(((image * dims[0] + at[0]) * dims[1] + at[1]) * dims[2] + at[2])];
            });
        }
    }
}

TEST(the_largest_come_in_order_and_of_equal_ones_the_first) {
    const Network network{
        {{9}}, {{"t", "topk", {0}, {}, {{"axis", {1}}, {"largest", {1}}, {"count", {4}}}, {}, {}, {4}}}, {1}};
    for (std::int64_t images : kImages) {
        const Floats x = wholes_below(images * 9, 4);
        check_every_kernel(network, {x}, images, [&](std::int64_t image, std::int64_t i) {
            std::vector<int> order{0, 1, 2, 3, 4, 5, 6, 7, 8};
            std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
                return x[static_cast<std::size_t>(image * 9 + a)] > x[static_cast<std::size_t>(image * 9 + b)];
            });
            return static_cast<double>(order[static_cast<std::size_t>(i)]);
        });
    }
}

TEST(reductions_of_leading_axes_look_at_every_number_once) {
    for (const char* op : {"sum", "amax"}) {
        const Network network{
            {{5, 3, 17}}, {{"r", op, {0}, {}, {{"axes", {1}}, {"keepdims", {0}}}, {}, {}, {3, 17}}}, {1}};
        for (std::int64_t images : kImages) {
            const Floats x = normal(images * 5 * 51);
            check_every_kernel(network, {x}, images, [&](std::int64_t image, std::int64_t i) {
                double sum = 0, most = -INFINITY;
                for (std::int64_t c = 0; c < 5; ++c) {
                    const double value = x[static_cast<std::size_t>((image * 5 + c) * 51 + i)];
                    sum += value, most = std::max(most, value);
                }
                return op[0] == 's' ? sum : most;
            });
        }
    }
}

TEST(planes_are_resized_by_their_taps) {
    const Wholes rows{0, 0, 1, 1, 2, 2, 0, 1, 1, 2, 2, 2}, columns{0, 1, 3};
    const Floats row_shares{1, 0.75f, 0.5f, 1, 0.25f, 0, 0, 0.25f, 0.5f, 0, 0.75f, 1}, column_shares{1, 1, 1};
    const Network network{{{2, 3, 4}},
                          {{"r",
                            "resize",
                            {0},
                            {{"sources 0", array(rows, {2, 6})},
                             {"shares 0", array(row_shares, {2, 6})},
                             {"sources 1", array(columns, {1, 3})},
                             {"shares 1", array(column_shares, {1, 3})}},
                            {},
                            {},
                            {},
                            {2, 6, 3}}},
                          {1}};
    for (std::int64_t images : kImages) {
        const Floats x = normal(images * 24);
        check_every_kernel(network, {x}, images, [&](std::int64_t image, std::int64_t i) {
            const std::int64_t plane = i / 18, row = i / 3 % 6, column = columns[static_cast<std::size_t>(i % 3)];
            double sum = 0;
            for (std::int64_t tap : {0, 1}) {
                const std::size_t at = static_cast<std::size_t>(tap * 6 + row);
                sum += row_shares[at] * x[static_cast<std::size_t>(((image * 2 + plane) * 3 + rows[at]) * 4 + column)];
            }
            return sum;
        });
    }
}
