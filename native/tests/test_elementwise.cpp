// Functions of one element and of two: every kernel has the same, and they are reached through a network.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "kernels.hpp"
#include "secateur/cpu.hpp"
#include "secateur/session.hpp"

using secateur::kScalarKernels;
using secateur::Network;
using secateur::Node;

namespace {

constexpr double kGiven[] = {1.5, 2.5};  // parameters that are not fixed
constexpr std::int64_t kCount = 190;

std::vector<float> numbers(unsigned seed) {
    std::mt19937 generator(seed);
    std::vector<float> values{0.0f,    -0.0f,   INFINITY, -INFINITY, NAN,   1e-45f,
                              -1e-45f, 3.4e38f, -3.4e38f, 20.0f,     88.8f, -104.0f};
    while (values.size() < kCount / 2) values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(generator())));
    std::normal_distribution<float> usual;
    while (values.size() < kCount) values.push_back(3 * usual(generator));
    std::shuffle(values.begin(), values.end(), generator);
    return values;
}

bool alike(float one, float other) {
    if (std::isnan(one) || std::isnan(other)) return std::isnan(one) == std::isnan(other);
    return one == other || std::abs(one - other) <= 1e-6f * std::max(1.0f, std::abs(other));
}

bool alike(const std::vector<float>& one, const std::vector<float>& other) {
    return std::equal(one.begin(), one.end(), other.begin(), [](float a, float b) { return alike(a, b); });
}

std::vector<double> parameters_of(const secateur::UnaryFunction& function) {
    std::vector<double> parameters;
    for (int i = 0; i < secateur::kParameters; ++i)
        parameters.push_back(function.parameters[i] == nullptr ? function.fixed[i] : kGiven[i]);
    return parameters;
}

std::vector<float> applied(const secateur::UnaryFunction& function, const std::vector<float>& from) {
    std::vector<float> to(from.size());
    function.run(parameters_of(function).data(), from.data(), to.data(), static_cast<std::int64_t>(from.size()));
    return to;
}

// "gelu tanh" is the operation gelu with an attribute that says tanh.
Node node_of(const secateur::UnaryFunction& function) {
    const std::string name = function.name;
    const std::size_t space = name.find(' ');
    Node node{"y", name.substr(0, space), {0}, {}, {}, {}, {}, {kCount / 19, 19}};
    if (space != std::string::npos) node.texts["attribute"] = name.substr(space + 1);
    for (int i = 0; i < secateur::kParameters; ++i)
        if (function.parameters[i] != nullptr) node.numbers[function.parameters[i]] = kGiven[i];
    return node;
}

// Rows of 19 elements, and as many of `columns`: one for the whole row, or one for each.
std::vector<float> combined(const secateur::BinaryFunction& function, const std::vector<float>& left,
                            const std::vector<float>& right, std::int64_t columns) {
    std::vector<float> to(left.size());
    for (std::size_t at = 0; at < to.size(); ++at)
        function.run({&left[at], &right[columns == 1 ? at / 19 : at], &to[at], 1, 1, 1, -INFINITY, INFINITY});
    return to;
}

}  // namespace

TEST(every_kernel_has_the_same_functions_in_the_same_order) {
    for (const auto* kernels : secateur::runnable_kernels()) {
        CHECK(kernels->unary_count == kScalarKernels.unary_count &&
              kernels->binary_count == kScalarKernels.binary_count);
        for (int i = 0; i < kernels->unary_count; ++i)
            CHECK(std::string_view(kernels->unaries[i].name) == kScalarKernels.unaries[i].name);
        for (int i = 0; i < kernels->binary_count; ++i)
            CHECK(std::string_view(kernels->binaries[i].name) == kScalarKernels.binaries[i].name);
    }
}

TEST(functions_of_one_element_agree_with_the_scalar_ones_on_numbers_of_any_size) {
    const auto from = numbers(1);
    for (const auto* kernels : secateur::runnable_kernels())
        for (int i = 0; i < kernels->unary_count; ++i)
            CHECK(alike(applied(kernels->unaries[i], from), applied(kScalarKernels.unaries[i], from)));
}

TEST(a_network_applies_functions_of_one_element) {
    std::vector<float> images;
    for (unsigned image = 0; image < 19; ++image)
        for (float each : numbers(image)) images.push_back(each);
    for (const auto* kernels : secateur::runnable_kernels())
        for (int i = 0; i < kernels->unary_count; ++i) {
            secateur::Session session({{{kCount / 19, 19}}, {node_of(kernels->unaries[i])}, {1}}, *kernels, {}, 2);
            std::vector<float> found(images.size());
            const void* from = images.data();
            void* to = found.data();
            session.run(&from, &to, 19);
            CHECK(alike(found, applied(kernels->unaries[i], images)));
        }
}

TEST(a_network_applies_functions_of_two_elements_to_shapes_that_broadcast) {
    constexpr std::int64_t kRows = kCount / 19, kImages = 19;
    std::vector<float> left, right;
    for (unsigned image = 0; image < kImages; ++image) {
        const auto some = numbers(image), others = numbers(100 + image);
        left.insert(left.end(), some.begin(), some.end()), right.insert(right.end(), others.begin(), others.end());
    }
    const void* from[] = {left.data(), right.data()};
    for (const auto* kernels : secateur::runnable_kernels())
        for (int i = 0; i < kernels->binary_count; ++i)
            for (const std::int64_t columns : {19, 1}) {
                const Node node{"y", kernels->binaries[i].name, {0, 1}, {}, {}, {}, {}, {kRows, 19}};
                secateur::Session session({{{kRows, 19}, {kRows, columns}}, {node}, {2}}, *kernels, {}, 1);
                const auto expected = combined(kernels->binaries[i], left, right, columns);
                for (const std::int64_t images : {std::int64_t{1}, kImages}) {
                    std::vector<float> found(static_cast<std::size_t>(images * kCount));
                    void* to = found.data();
                    session.run(from, &to, images);
                    CHECK(alike(found, expected));
                }
            }
}

TEST(a_clamp_behind_a_sum_or_a_difference_is_fused_into_it) {
    const auto names = [](const secateur::Kernels& kernels, const char* op) {
        const Node node{"sum", op, {0, 1}, {}, {}, {}, {}, {4}}, clamp{"y", "relu6", {2}, {}, {}, {}, {}, {4}};
        secateur::Session session({{{4}, {4}}, {node, clamp}, {3}}, kernels, {}, 1);
        std::vector<std::string> found;
        for (const auto& step : session.steps(session.divide(1).front(), 0)) found.push_back(step.report.operations);
        return found;
    };
    for (const auto* kernels : secateur::runnable_kernels())
        for (int i = 0; i < kernels->binary_count; ++i) {
            const std::string name = kernels->binaries[i].name;
            const auto found = names(*kernels, name.c_str());
            CHECK(std::count(found.begin(), found.end(), name + "+relu6") == 1);
        }
}
