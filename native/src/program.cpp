#include "program.hpp"

#include <algorithm>
#include <atomic>

#include "compiler.hpp"
#include "folding.hpp"
#include "secateur/interruption.hpp"
#include "threads.hpp"

namespace secateur {
namespace {

constexpr double kLong = 1e9;  // elements that are looked at without asking whether to go on
constexpr int kPieces = 4;     // of a step for every thread: who comes late or is slow takes fewer

// Into how many pieces one thread does a step.
std::int64_t pieces_of(const Step& step, int images) {
    const double work =
        static_cast<double>(images) * std::max(step.work, static_cast<double>(step.report.multiply_adds));
    return std::max<std::int64_t>(1, std::min(step.items, static_cast<std::int64_t>(work / kLong)));
}

void run_step(const Step& step, std::span<const Frame> frames) {
    Word* scratch = frames.front().scratch[0].get();
    for (std::int64_t i = 0; i < step.pieces; ++i) {
        check_interruption();
        const std::int64_t begin = step.items * i / step.pieces, end = step.items * (i + 1) / step.pieces;
        if (frames.size() > 1) step.run_all(frames, begin, end, scratch);
        else step.run(frames.front(), begin, end, scratch);
    }
}

// Of a step for one of several threads: of what shares a pass as much as leaves all of them some.
std::int64_t piece_of(const Step& step, std::int64_t pieces, int threads) {
    return std::max(
        {std::int64_t{1}, step.items / pieces, std::min(step.at_once, (step.items + threads - 1) / threads)});
}

// Whether what images share is more than what each holds, which is fetched again between their steps.
std::int64_t together_of(const std::vector<Step>& steps, std::size_t arena_bytes) {
    double again = 0;
    for (const Step& step : steps) again += step.again;
    return again > static_cast<double>(arena_bytes) ? kVectorsTogether : 1;
}

}  // namespace

Program::Program(const FusedNetwork& network, int images, const Kernels& kernels, const CostModel& costs, int threads)
    : images_(images) {
    const FoldedNetwork folded = images == 1 ? fold(network, kernels, costs) : unfolded(network);
    Compiler(folded, images, kernels, costs, threads, *this).compile();
    for (Step& step : steps_) step.pieces = pieces_of(step, images);
    if (images == 1) together_ = together_of(steps_, arena_bytes());
}

Frame Program::make_frame(int threads) const {
    Frame frame;
    frame.arena = make_words(arena_words_);
    for (int thread = 0; thread < threads; ++thread) frame.scratch.push_back(make_words(scratch_words_ + kOverread));
    for (const auto& [at, values] : constants_) std::copy(values.begin(), values.end(), frame.arena.get() + at);
    return frame;
}

// Image by image from one step that they share to the next.
void Program::run(std::span<const Frame> frames) const {
    for (auto step = steps_.begin(); step != steps_.end();) {
        const auto shared = frames.size() == 1 ? steps_.end() : std::find_if(step, steps_.end(), [](const Step& each) {
            return static_cast<bool>(each.run_all);
        });
        for (const Frame& frame : frames)
            for (auto own = step; own != shared; ++own) run_step(*own, {&frame, 1});
        if (step = shared; step != steps_.end()) run_step(*step++, frames);
    }
}

// Who fails stops the others, who would wait for it.
void Program::run_shared(const Frame& frame, int threads, std::chrono::steady_clock::time_point* ends) const {
    struct alignas(64) Progress {
        std::atomic<std::int64_t> taken{0}, done{0};
    };
    std::vector<Progress> progress(steps_.size());
    std::atomic<bool> stopped{false};
    const auto share = [&](int thread) {
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            const std::int64_t items = steps_[i].items,
                               all = std::max<std::int64_t>(kPieces * threads, steps_[i].pieces);
            const std::int64_t piece = piece_of(steps_[i], all, threads);
            for (std::int64_t begin; (begin = progress[i].taken.fetch_add(piece, std::memory_order_relaxed)) < items;) {
                check_interruption();
                const std::int64_t end = std::min(items, begin + piece);
                steps_[i].run(frame, begin, end, frame.scratch[thread].get());
                progress[i].done.fetch_add(end - begin, std::memory_order_release);
            }
            for (int spins = 0; progress[i].done.load(std::memory_order_acquire) != items; ++spins) {
                if (stopped.load(std::memory_order_relaxed)) return;
                check_interruption();
                relax(spins);
            }
            if (ends != nullptr && thread == 0) ends[i] = std::chrono::steady_clock::now();
        }
    };
    run_together(threads, [&](int thread) {
        try {
            share(thread);
        } catch (...) {
            stopped = true;
            throw;
        }
    });
}

std::vector<double> Program::time_steps(Frame& frame, int rounds, int threads) const {
    using Clock = std::chrono::steady_clock;
    std::vector<double> best(steps_.size(), 1e30);
    std::vector<Clock::time_point> ends(steps_.size());
    for (int round = 0; round < rounds; ++round) {
        auto start = Clock::now();
        if (threads > 1) run_shared(frame, threads, ends.data());
        for (std::size_t i = 0; i < steps_.size(); ++i) {
            if (threads == 1) {
                check_interruption();
                start = Clock::now();
                steps_[i].run(frame, 0, steps_[i].items, frame.scratch[0].get());
                ends[i] = Clock::now();
            }
            best[i] = std::min(best[i], std::chrono::duration<double>(ends[i] - start).count());
            start = ends[i];
        }
    }
    return best;
}

}  // namespace secateur
