// Products of two values, attention and recurrent layers of every kernel that this processor runs, against plain loops.
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.hpp"
#include "secateur/cpu.hpp"
#include "secateur/session.hpp"

using secateur::Array;
using secateur::Network;
using secateur::Node;
using secateur::Shape;

namespace {

using Floats = std::vector<float>;

std::mt19937 generator(11);

std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(generator);
}

Floats normal(std::int64_t count, double density = 1.0) {
    std::normal_distribution<float> value(0.0f, 0.7f);
    std::bernoulli_distribution kept(density);
    Floats values(static_cast<std::size_t>(count));
    for (float& each : values) each = kept(generator) ? value(generator) : 0.0f;
    return values;
}

// What each image gives alone.
Floats run_alone(secateur::Session& session, std::vector<const void*> from, const std::vector<Floats>& inputs,
                 std::int64_t images, std::size_t size) {
    Floats found(size);
    for (std::int64_t image = 0; image < images; ++image) {
        for (std::size_t i = 0; i < inputs.size(); ++i)
            from[i] = inputs[i].data() + static_cast<std::int64_t>(inputs[i].size()) / images * image;
        void* to = found.data() + static_cast<std::int64_t>(size) / images * image;
        session.run(from.data(), &to, 1);
    }
    return found;
}

// Whether images run as they do alone, though perhaps several go through a step together.
bool runs_singly(secateur::Session& session, std::int64_t images) {
    const auto parts = session.divide(images);
    return std::all_of(parts.begin(), parts.end(), [](const secateur::Part& part) { return part.block == 1; });
}

// Every kernel on one thread and on three: what is right, and the same bits; so has each image alone where nothing but
// steps is shared. right: of all images, side by side.
void check_outputs(const Network& network, const std::vector<Floats>& inputs, std::int64_t images,
                   const Floats& right) {
    std::vector<const void*> from;
    for (const Floats& each : inputs) from.push_back(each.data());
    for (const auto* kernels : secateur::runnable_kernels()) {
        Floats found[2];
        for (int shared : {0, 1}) {
            secateur::Session session(network, *kernels, {}, 1 + 2 * shared);
            found[shared].assign(right.size(), NAN);
            void* to = found[shared].data();
            session.run(from.data(), &to, images);
            if (runs_singly(session, images))
                CHECK(run_alone(session, from, inputs, images, right.size()) == found[shared]);
        }
        bool near = true;
        for (std::size_t i = 0; i < right.size(); ++i)
            near = near && std::abs(found[0][i] - right[i]) <= 1e-4f * (1.0f + std::abs(right[i]));
        CHECK(near);
        CHECK(found[0] == found[1]);
    }
}

std::int64_t draw_images() {
    const std::int64_t some[] = {1, 2, 3, 7, 9, 16, 35};
    return some[between(0, 6)];
}

// (count, rows, columns) numbers.
struct Matrices {
    std::int64_t rows, columns;
    Floats numbers;

    Matrices(std::int64_t count, std::int64_t rows_, std::int64_t columns_)
        : rows(rows_), columns(columns_), numbers(normal(count * rows_ * columns_)) {}
    double at(std::int64_t matrix, std::int64_t row, std::int64_t column) const {
        return numbers[static_cast<std::size_t>((matrix * rows + row) * columns + column)];
    }
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

TEST(products_of_two_values_agree_with_plain_loops) {
    for (int round = 0; round < 25; ++round) {
        const std::int64_t images = draw_images(), heads = between(1, 3), rows = between(1, 40),
                           length = between(1, 40), columns = between(1, 70), transposed = between(0, 1);
        const Matrices left(images * heads, rows, length),
            right(images, transposed ? columns : length, transposed ? length : columns);
        Node node{"product", "matmul", {0, 1}, {}, {{"transposed", {transposed}}}, {}, {}, {heads, rows, columns}};
        Floats expected;
        for (std::int64_t matrix = 0; matrix < images * heads; ++matrix)
            for (std::int64_t i = 0; i < rows; ++i)
                for (std::int64_t j = 0; j < columns; ++j) {
                    double sum = 0;
                    for (std::int64_t k = 0; k < length; ++k)
                        sum += left.at(matrix, i, k) *
                               (transposed ? right.at(matrix / heads, j, k) : right.at(matrix / heads, k, j));
                    expected.push_back(static_cast<float>(sum));
                }
        check_outputs({{{heads, rows, length}, {right.rows, right.columns}}, {node}, {2}},
                      {left.numbers, right.numbers}, images, expected);
    }
}

TEST(attention_agrees_with_plain_loops) {
    for (int round = 0; round < 25; ++round) {
        const std::int64_t images = draw_images(), groups = between(1, 2), shared = between(1, 3),
                           heads = groups * shared, rows = between(1, 40), keys = between(1, 70),
                           length = between(1, 20), width = between(1, 40), causal = between(0, 1);
        const Matrices query(images * heads, rows, length), key(images * groups, keys, length),
            value(images * groups, keys, width), mask(images, rows, keys);
        Node node{"attention",      "attention", {0, 1, 2, 3},        {}, {{"causal", {causal}}, {"boolean", {0}}},
                  {{"scale", 0.5}}, {},          {heads, rows, width}};
        Floats expected;
        for (std::int64_t head = 0; head < images * heads; ++head)
            for (std::int64_t i = 0; i < rows; ++i) {
                const std::int64_t read = head / shared, seen = causal ? std::min(keys, i + 1) : keys;
                std::vector<double> powers;
                double sum = 0;
                for (std::int64_t j = 0; j < seen; ++j) {
                    double score = 0;
                    for (std::int64_t k = 0; k < length; ++k) score += query.at(head, i, k) * key.at(read, j, k);
                    powers.push_back(std::exp(0.5 * score + mask.at(head / heads, i, j)));
                    sum += powers.back();
                }
                for (std::int64_t f = 0; f < width; ++f) {
                    double mixed = 0;
                    for (std::int64_t j = 0; j < seen; ++j)
                        mixed += powers[static_cast<std::size_t>(j)] * value.at(read, j, f);
                    expected.push_back(static_cast<float>(mixed / sum));
                }
            }
        check_outputs(
            {{{heads, rows, length}, {groups, keys, length}, {groups, keys, width}, {rows, keys}}, {node}, {4}},
            {query.numbers, key.numbers, value.numbers, mask.numbers}, images, expected);
    }
}

TEST(recurrent_layers_agree_with_plain_loops) {
    const char* const names[] = {"lstm", "gru", "rnn"};
    const std::int64_t gates_of[] = {4, 3, 1};
    for (int round = 0; round < 30; ++round) {
        const int kind = round % 3;
        const std::int64_t images = draw_images(), size = between(1, 40), length = between(1, 6),
                           gates = gates_of[kind], reverse = between(0, 1), states = kind == 0 ? 2 : 1;
        const Floats weight = normal(gates * size * size, round % 2 == 0 ? 0.2 : 1.0), bias = normal(gates * size);
        const Matrices steps(images, length, gates * size), first(images, 1, size);
        Node node{names[kind], names[kind], {0, 1}, {}, {{"reverse", {reverse}}}, {}, {}, {length, states * size}};
        if (kind == 0) node.inputs.push_back(1);
        if (kind == 2) node.texts["activation"] = "tanh";
        node.weights["weight"] = Array{weight.data(), {gates * size, size}};
        node.weights["bias"] = Array{bias.data(), {gates * size}};
        Floats expected(static_cast<std::size_t>(images * length * states * size));
        for (std::int64_t image = 0; image < images; ++image) {
            std::vector<double> hidden;
            for (std::int64_t i = 0; i < size; ++i) hidden.push_back(first.at(image, 0, i));
            std::vector<double> cell = hidden;
            for (std::int64_t step = 0; step < length; ++step) {
                const std::int64_t time = reverse ? length - 1 - step : step;
                std::vector<double> fed(bias.begin(), bias.end());
                for (std::int64_t gate = 0; gate < gates * size; ++gate)
                    for (std::int64_t i = 0; i < size; ++i)
                        fed[static_cast<std::size_t>(gate)] +=
                            weight[static_cast<std::size_t>(gate * size + i)] * hidden[static_cast<std::size_t>(i)];
                for (std::int64_t i = 0; i < size; ++i) {
                    const auto given = [&](std::int64_t gate) { return steps.at(image, time, gate * size + i); };
                    const auto back = [&](std::int64_t gate) { return fed[static_cast<std::size_t>(gate * size + i)]; };
                    const auto both = [&](std::int64_t gate) { return given(gate) + back(gate); };
                    double& h = hidden[static_cast<std::size_t>(i)];
                    double& c = cell[static_cast<std::size_t>(i)];
                    if (kind == 0) {
                        c = sigmoid(both(1)) * c + sigmoid(both(0)) * std::tanh(both(2));
                        h = sigmoid(both(3)) * std::tanh(c);
                    } else if (kind == 1) {
                        const double kept = sigmoid(both(1));
                        h = (1 - kept) * std::tanh(given(2) + sigmoid(both(0)) * back(2)) + kept * h;
                    } else {
                        h = std::tanh(both(0));
                    }
                    float* to = expected.data() + (image * length + time) * states * size + i;
                    to[0] = static_cast<float>(h);
                    if (kind == 0) to[size] = static_cast<float>(c);
                }
            }
        }
        check_outputs({{{length, gates * size}, {size}}, {node}, {2}}, {steps.numbers, first.numbers}, images,
                      expected);
    }
}
