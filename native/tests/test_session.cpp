// Every kernel that this processor runs, against loops that are plainly right, on networks drawn at random.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "secateur/cpu.hpp"
#include "secateur/session.hpp"

using secateur::Array;
using secateur::Network;
using secateur::Node;
using secateur::Shape;

namespace {

std::mt19937 generator(7);

std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(generator);
}

std::vector<float> normal(std::int64_t count, double density = 1.0) {
    std::normal_distribution<float> value;
    std::bernoulli_distribution kept(density);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& each : values) each = kept(generator) ? value(generator) : 0.0f;
    return values;
}

// One convolution with bias and ReLU, as a network and as the numbers to compare with.
struct Case {
    std::int64_t channels, height, width, outputs, kernel_y, kernel_x, stride_y, stride_x, top, bottom, left, right,
        dilation_y, dilation_x, groups, out_height = 0, out_width = 0;
    std::vector<float> weight{}, bias{};
    Network network{};

    bool fits() const {
        return height + top + bottom >= dilation_y * (kernel_y - 1) + 1 &&
               width + left + right >= dilation_x * (kernel_x - 1) + 1;
    }

    void build() {
        const double densities[] = {1.0, 0.5, 0.1, 0.0};
        build(densities[between(0, 3)]);
    }

    void build(double density) {
        out_height = (height + top + bottom - dilation_y * (kernel_y - 1) - 1) / stride_y + 1;
        out_width = (width + left + right - dilation_x * (kernel_x - 1) - 1) / stride_x + 1;
        weight = normal(outputs * channels / groups * kernel_y * kernel_x, density);
        bias = normal(outputs);
        Node conv{"conv", "conv2d", {0}, {}, {}, {}, {}, {outputs, out_height, out_width}};
        conv.weights["weight"] = Array{weight.data(), {outputs, channels / groups, kernel_y, kernel_x}};
        conv.weights["bias"] = Array{bias.data(), {outputs}};
        conv.integers["stride"] = {stride_y, stride_x};
        conv.integers["padding"] = {top, bottom, left, right};
        conv.integers["dilation"] = {dilation_y, dilation_x};
        conv.integers["groups"] = {groups};
        Node relu{"relu", "relu", {1}, {}, {}, {}, {}, conv.shape};
        network = {{{channels, height, width}}, {conv, relu}, {2}};
    }

    float right_output(const float* image, std::int64_t o, std::int64_t y, std::int64_t x) const {
        double sum = bias[static_cast<std::size_t>(o)];
        const std::int64_t per_group = channels / groups, first = o / (outputs / groups) * per_group;
        for (std::int64_t c = 0; c < per_group; ++c)
            for (std::int64_t ky = 0; ky < kernel_y; ++ky)
                for (std::int64_t kx = 0; kx < kernel_x; ++kx) {
                    const std::int64_t iy = y * stride_y + ky * dilation_y - top,
                                       ix = x * stride_x + kx * dilation_x - left;
                    if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
                    sum +=
                        static_cast<double>(
                            weight[static_cast<std::size_t>(((o * per_group + c) * kernel_y + ky) * kernel_x + kx)]) *
                        image[((first + c) * height + iy) * width + ix];
                }
        return static_cast<float>(std::max(0.0, sum));
    }

    std::vector<float> right_outputs(const std::vector<float>& input, std::int64_t images) const {
        std::vector<float> found;
        for (std::int64_t image = 0; image < images; ++image)
            for (std::int64_t o = 0; o < outputs; ++o)
                for (std::int64_t y = 0; y < out_height; ++y)
                    for (std::int64_t x = 0; x < out_width; ++x)
                        found.push_back(right_output(input.data() + image * channels * height * width, o, y, x));
        return found;
    }
};

Case draw() {
    for (;;) {
        const std::int64_t groups = between(0, 3) == 0 ? between(1, 3) : 1;
        Case drawn{groups * between(1, 5), between(1, 20), between(1, 35), groups * between(1, 20), between(1, 4),
                   between(1, 4),          between(1, 3),  between(1, 3),  between(0, 2),           between(0, 2),
                   between(0, 2),          between(0, 2),  between(1, 2),  between(1, 2),           groups};
        if (!drawn.fits()) continue;
        drawn.build();
        return drawn;
    }
}

// A convolution between images that every kernel can fold.
Case draw_foldable() {
    const std::int64_t kernel = between(0, 2) == 0 ? 1 : 3, stride = kernel == 1 ? 2 : between(1, 2), pad = kernel / 2;
    Case drawn{between(1, 20),
               8 * between(1, 2),
               8 * between(1, 3),
               between(1, 20),
               kernel,
               kernel,
               stride,
               stride,
               pad,
               pad,
               pad,
               pad,
               1,
               1,
               1};
    drawn.build();
    return drawn;
}

bool near(const std::vector<float>& found, const std::vector<float>& right) {
    for (std::size_t i = 0; i < right.size(); ++i)
        if (!(std::abs(found[i] - right[i]) <= 1e-4f * (1.0f + std::abs(right[i])))) return false;
    return true;
}

std::vector<float> run(secateur::Session& session, const std::vector<float>& input, std::int64_t images,
                       std::size_t outputs) {
    std::vector<float> output(outputs, NAN);
    const void* from = input.data();
    void* to = output.data();
    session.run(&from, &to, images);
    return output;
}

}  // namespace

TEST(convolutions_of_every_kernel_agree_with_plain_loops) {
    for (int round = 0; round < 60; ++round) {
        Case drawn = draw();
        const std::int64_t batches[] = {0, 1, 3, 16, 19};
        const std::int64_t images = batches[between(0, 4)];
        const auto input = normal(images * drawn.channels * drawn.height * drawn.width);
        const auto right = drawn.right_outputs(input, images);
        for (const auto* kernels : secateur::runnable_kernels()) {
            secateur::Session session(drawn.network, *kernels, {}, 1);
            CHECK(near(run(session, input, images, right.size()), right));
        }
    }
}

TEST(folded_convolutions_agree_with_plain_loops) {
    secateur::CostModel costs;
    costs.floats.rows = 1e4;  // what can be folded is
    for (int round = 0; round < 40; ++round) {
        Case drawn = draw_foldable();
        const auto input = normal(drawn.channels * drawn.height * drawn.width);
        const auto right = drawn.right_outputs(input, 1);
        for (const auto* kernels : secateur::runnable_kernels()) {
            secateur::Session alone(drawn.network, *kernels, costs, 1), shared(drawn.network, *kernels, costs, 3);
            const auto steps = alone.steps(alone.divide(1).front(), 0);
            CHECK(std::any_of(steps.begin(), steps.end(), [](const auto& step) { return step.report.name == "fold"; }));
            const auto found = run(alone, input, 1, right.size());
            CHECK(near(found, right));
            CHECK(found == run(shared, input, 1, right.size()));
        }
    }
}

// Costs by which every convolution that Winograd's transform can compute is computed by it.
secateur::CostModel winograd_costs() {
    secateur::CostModel costs;
    costs.floats.distance.fill(1e6), costs.floats.load = 1e6;
    return costs;
}

bool by_winograd(secateur::Session& session, std::int64_t images) {
    for (const auto& part : session.divide(images))
        for (const auto& step : session.steps(part, 0))
            if (step.report.kernel.starts_with("Winograd")) return true;
    return false;
}

TEST(batches_by_winograds_transform_agree_with_plain_loops) {
    for (int round = 0; round < 30; ++round) {
        Case drawn{between(1, 20), between(1, 14), between(1, 14), between(1, 40), 3, 3, 1, 1,
                   between(0, 2),  between(0, 2),  between(0, 2),  between(0, 2),  1, 1, 1};
        if (!drawn.fits()) continue;
        drawn.build(1.0);
        const std::int64_t images = between(0, 1) == 0 ? 19 : 40;
        const auto input = normal(images * drawn.channels * drawn.height * drawn.width);
        const auto right = drawn.right_outputs(input, images);
        for (const auto* kernels : secateur::runnable_kernels()) {
            secateur::Session alone(drawn.network, *kernels, winograd_costs(), 1),
                shared(drawn.network, *kernels, winograd_costs(), 3);
            const bool large = drawn.out_height * drawn.out_width > 4;  // fewer pixels may be a matrix times a vector
            CHECK(!large || (by_winograd(alone, images) && by_winograd(shared, images)));
            const auto found = run(alone, input, images, right.size());
            CHECK(near(found, right));
            CHECK(found == run(shared, input, images, right.size()));
        }
    }
}

TEST(folded_images_by_winograds_transform_agree_with_plain_loops) {
    secateur::CostModel costs = winograd_costs();
    costs.floats.rows = 1e9;  // what can be folded is
    for (int round = 0; round < 30; ++round) {
        Case drawn{
            between(1, 20), 4 * between(2, 8), 4 * between(2, 8), between(1, 40), 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1};
        drawn.build(1.0);
        const auto input = normal(drawn.channels * drawn.height * drawn.width);
        const auto right = drawn.right_outputs(input, 1);
        for (const auto* kernels : secateur::runnable_kernels()) {
            secateur::Session alone(drawn.network, *kernels, costs, 1), shared(drawn.network, *kernels, costs, 3);
            CHECK(by_winograd(alone, 1) && by_winograd(shared, 1));
            const auto found = run(alone, input, 1, right.size());
            CHECK(near(found, right));
            CHECK(found == run(shared, input, 1, right.size()));
        }
    }
}

TEST(measured_costs_lie_around_those_built_in) {
    for (const auto* kernels : secateur::runnable_kernels()) {
        const auto built_in = secateur::built_in_costs(*kernels).values();
        const auto values = secateur::measure_costs(*kernels).values();
        CHECK(values.size() == built_in.size());
        for (std::size_t i = 0; i < values.size(); ++i)
            CHECK(values[i] >= built_in[i] / 4.001 && values[i] <= built_in[i] * 4.001);
        for (bool bytes : {false, true}) CHECK(secateur::peak_rate(*kernels, bytes) > 1e6);
        CHECK(secateur::CostModel::of(values).values() == values);
    }
}

TEST(a_matrix_times_a_vector_agrees_with_plain_loops) {
    for (int round = 0; round < 40; ++round) {
        const std::int64_t inputs = between(1, 100), outputs = between(1, 70);
        const auto weight = normal(outputs * inputs, round % 2 == 0 ? 0.1 : 0.9), input = normal(inputs);
        Node linear{"linear", "linear", {0}, {}, {}, {}, {}, {outputs}};
        linear.weights["weight"] = Array{weight.data(), {outputs, inputs}};
        std::vector<float> right;
        for (std::int64_t o = 0; o < outputs; ++o) {
            double sum = 0;
            for (std::int64_t i = 0; i < inputs; ++i)
                sum += static_cast<double>(weight[static_cast<std::size_t>(o * inputs + i)]) *
                       input[static_cast<std::size_t>(i)];
            right.push_back(static_cast<float>(sum));
        }
        for (const auto* kernels : secateur::runnable_kernels()) {
            secateur::Session session({{{inputs}}, {linear}, {1}}, *kernels, {}, 1);
            CHECK(near(run(session, input, 1, right.size()), right));
        }
    }
}

TEST(any_number_of_threads_gives_the_same_bits) {
    for (int round = 0; round < 10; ++round) {
        Case drawn = draw();
        const std::int64_t images = round % 2 == 0 ? 1 : 40;
        const auto input = normal(images * drawn.channels * drawn.height * drawn.width);
        const std::size_t outputs =
            static_cast<std::size_t>(images * drawn.outputs * drawn.out_height * drawn.out_width);
        for (const auto* kernels : secateur::runnable_kernels()) {
            secateur::Session alone(drawn.network, *kernels, {}, 1), shared(drawn.network, *kernels, {}, 3);
            CHECK(run(alone, input, images, outputs) == run(shared, input, images, outputs));
        }
    }
}

TEST(one_session_serves_several_callers) {
    Case drawn = draw();
    const auto input = normal(5 * drawn.channels * drawn.height * drawn.width);
    const auto right = drawn.right_outputs(input, 5);
    secateur::Session session(drawn.network, *secateur::runnable_kernels().front(), {}, 2);
    std::vector<std::thread> callers;
    std::vector<int> good(4, 0);
    for (std::size_t caller = 0; caller < good.size(); ++caller)
        callers.emplace_back([&, caller] {
            for (int i = 0; i < 5; ++i) good[caller] += near(run(session, input, 5, right.size()), right);
        });
    for (auto& each : callers) each.join();
    CHECK(std::count(good.begin(), good.end(), 5) == 4);
}
