#include "secateur/session.hpp"

#include <algorithm>

#include "secateur/threads.hpp"

namespace secateur {
namespace {

// Images that should lie innermost: few where planes are large enough to fill the vectors of a tile, many where not.
int preferred_images(const FusedNetwork& network) {
    double small = 0, tiny = 0, all = 0;
    for (const Operation& operation : network.operations) {
        if (operation.kind != Kind::kConvolution && operation.kind != Kind::kLinear) continue;
        const Shape& shape = network.shapes[operation.output];
        const double places = static_cast<double>(elements(shape)) / static_cast<double>(std::max<std::int64_t>(1, operation.weight.shape[0]));
        std::int64_t nonzeros = 0;
        for (std::int64_t i = 0; i < elements(operation.weight.shape); ++i) nonzeros += operation.weight.data[i] != 0.0f;
        const double work = places * static_cast<double>(nonzeros);
        all += work;
        if (places < 8) small += work;
        if (places < 4) tiny += work;
    }
    if (tiny > 0.4 * all) return 64;
    return small > 0.4 * all ? 32 : 16;
}

constexpr std::size_t kIdleFrames = 4;

}  // namespace

Session::Session(const Network& network, const Kernels& kernels, int threads)
    : network_(fuse(network)), kernels_(kernels), threads_(threads), preferred_(preferred_images(network_)) {
    for (int value : network_.inputs) input_sizes_.push_back(elements(network_.shapes[value]));
    for (int value : network_.outputs) output_sizes_.push_back(elements(network_.shapes[value]));
}

int Session::block_for(std::int64_t images) const {
    int block = 16;
    while (block < preferred_ && block < images) block *= 2;
    return block;
}

std::vector<Session::Part> Session::divide(std::int64_t images) {
    {
        const std::lock_guard lock(mutex_);
        const auto found = divisions_.find(images);
        if (found != divisions_.end()) return found->second;
    }
    std::vector<Part> parts;
    const int block = block_for(images);
    const std::int64_t whole = images / block, rest = images % block;
    if (whole > 0) parts.push_back({block, whole});
    if (rest > 0) {
        const int padded = block_for(rest);
        const bool singly = rest == 1 || (rest < 8 && static_cast<double>(rest) * program(1).predicted_cycles() < program(padded).predicted_cycles());
        parts.push_back(singly ? Part{1, rest} : Part{padded, 1});
    }
    const std::lock_guard lock(mutex_);
    if (divisions_.size() > 256) divisions_.clear();
    return divisions_[images] = parts;
}

Session::Compiled& Session::compiled(int block) {
    const std::lock_guard lock(mutex_);
    Compiled& found = programs_[block];
    if (!found.program) found.program = std::make_unique<Program>(network_, block, kernels_, threads_);
    return found;
}

const Program& Session::program(int block) { return *compiled(block).program; }

Frame Session::borrow(Compiled& compiled) {
    {
        const std::lock_guard lock(mutex_);
        if (!compiled.idle.empty()) {
            Frame frame = std::move(compiled.idle.back());
            compiled.idle.pop_back();
            return frame;
        }
    }
    return compiled.program->make_frame(threads_);
}

void Session::give_back(Compiled& compiled, Frame frame) {
    const std::lock_guard lock(mutex_);
    if (compiled.idle.size() < kIdleFrames) compiled.idle.push_back(std::move(frame));
}

void Session::run_block(Compiled& compiled, Frame& frame, const float* const* inputs, float* const* outputs,
                        std::int64_t first, std::int64_t valid, bool shared) {
    std::vector<const float*> from;
    std::vector<float*> to;
    for (std::size_t i = 0; i < input_sizes_.size(); ++i) from.push_back(inputs[i] + first * input_sizes_[i]);
    for (std::size_t i = 0; i < output_sizes_.size(); ++i) to.push_back(outputs[i] + first * output_sizes_[i]);
    frame.inputs = from.data(), frame.outputs = to.data(), frame.valid = static_cast<int>(valid);
    if (shared) compiled.program->run_shared(frame, threads_);
    else compiled.program->run(frame);
}

void Session::run(const float* const* inputs, float* const* outputs, std::int64_t images) {
    std::int64_t first = 0;
    for (const Part& part : divide(images)) {
        Compiled& program = compiled(part.block);
        const std::int64_t left = images - first;
        const auto valid = [&](std::int64_t index) { return std::min<std::int64_t>(part.block, left - index * part.block); };
        // As many whole blocks as there are threads run side by side, without waiting for one another.
        const std::int64_t apart = threads_ > 1 ? part.count / threads_ * threads_ : 0;
        if (apart > 0) {
            run_together(threads_, [&](int thread, bool) {
                Frame frame = borrow(program);
                for (std::int64_t i = thread; i < apart; i += threads_)
                    run_block(program, frame, inputs, outputs, first + i * part.block, valid(i), false);
                give_back(program, std::move(frame));
            });
        }
        if (apart < part.count) {
            Frame frame = borrow(program);
            for (std::int64_t i = apart; i < part.count; ++i)
                run_block(program, frame, inputs, outputs, first + i * part.block, valid(i), threads_ > 1);
            give_back(program, std::move(frame));
        }
        first += std::min(left, part.count * part.block);
    }
}

std::vector<double> Session::time_steps(int block, int rounds) {
    Compiled& program = compiled(block);
    Frame frame = borrow(program);
    std::vector<std::vector<float>> inputs, outputs;
    std::vector<const float*> from;
    std::vector<float*> to;
    for (auto size : input_sizes_) {
        inputs.emplace_back(static_cast<std::size_t>(size * block));
        unsigned state = 1;
        for (float& each : inputs.back()) state = state * 1664525u + 1013904223u, each = static_cast<float>(state >> 8) / 16777216.0f - 0.5f;
    }
    for (auto size : output_sizes_) outputs.emplace_back(static_cast<std::size_t>(size * block));
    for (auto& each : inputs) from.push_back(each.data());
    for (auto& each : outputs) to.push_back(each.data());
    frame.inputs = from.data(), frame.outputs = to.data(), frame.valid = block;
    auto seconds = program.program->time_steps(frame, rounds);
    give_back(program, std::move(frame));
    return seconds;
}

}  // namespace secateur
