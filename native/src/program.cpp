#include "secateur/program.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "compiler.hpp"
#include "folding.hpp"
#include "secateur/threads.hpp"

namespace secateur {
namespace {

constexpr int kPieces = 4;  // of a step for every thread: who comes late or is slow takes fewer

}  // namespace

Program::Program(const FusedNetwork& network, int images, const Kernels& kernels, const Costs& costs, int threads) : images_(images) {
    const FoldedNetwork folded = images == 1 ? fold(network, kernels, costs) : unfolded(network);
    Compiler(folded, images, kernels, costs, threads, *this).compile();
}

Frame Program::make_frame(int threads) const {
    Frame frame;
    frame.arena = make_floats(arena_floats_);
    for (int thread = 0; thread < threads; ++thread) frame.scratch.push_back(make_floats(scratch_floats_ + 64));
    for (const auto& [at, values] : constants_) std::copy(values.begin(), values.end(), frame.arena.get() + at);
    return frame;
}

void Program::run(const Frame& frame) const {
    for (const Step& step : steps_) step.run(frame, 0, step.items, frame.scratch[0].get());
}

void Program::run_shared(const Frame& frame, int threads) const {
    struct alignas(64) Progress {
        std::atomic<std::int64_t> taken{0}, done{0};
    };
    std::vector<Progress> progress(steps_.size());
    run_together(threads, [&](int thread) {
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            const std::int64_t items = steps_[i].items, piece = std::max<std::int64_t>(1, items / (kPieces * threads));
            for (std::int64_t begin; (begin = progress[i].taken.fetch_add(piece, std::memory_order_relaxed)) < items;) {
                const std::int64_t end = std::min(items, begin + piece);
                steps_[i].run(frame, begin, end, frame.scratch[thread].get());
                progress[i].done.fetch_add(end - begin, std::memory_order_release);
            }
            wait_until(progress[i].done, items);
        }
    });
}

std::vector<double> Program::time_steps(Frame& frame, int rounds) const {
    std::vector<double> best(steps_.size(), 1e30);
    for (int round = 0; round < rounds; ++round)
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            const auto start = std::chrono::steady_clock::now();
            steps_[i].run(frame, 0, steps_[i].items, frame.scratch[0].get());
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            best[i] = std::min(best[i], took.count());
        }
    return best;
}

}  // namespace secateur
