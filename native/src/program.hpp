// A fused network compiled for one layout of its values: either one image, rows contiguous, or blocks of images that
// lie innermost.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fusion.hpp"
#include "kernels.hpp"
#include "memory.hpp"
#include "secateur/costs.hpp"
#include "secateur/plan.hpp"

namespace secateur {

// Memory for one run at a time.
struct Frame {
    Words arena;
    std::vector<Words> scratch;  // per thread
    const Word* const* inputs = nullptr;
    Word* const* outputs = nullptr;
    int valid = 0;  // images of the block that are real

    Word* words(std::int64_t place) const { return arena.get() + place; }
    float* floats(std::int64_t place) const { return as_floats(words(place)); }
};

struct Step {
    StepReport report;
    std::int64_t items = 1;
    std::int64_t pieces = 1;  // in which one thread does them
    double work = 0;          // elements that are looked at for one image, where that is no multiply-add
    std::function<void(const Frame&, std::int64_t begin, std::int64_t end, Word* scratch)> run;
    // Of several images in one pass over what it reads of each anew, `again` bytes; null: one image after the other.
    using RunAll = std::function<void(std::span<const Frame>, std::int64_t begin, std::int64_t end, Word* scratch)>;
    RunAll run_all{};
    double again = 0;
    std::int64_t at_once = 1;  // items that share such a pass

    void run_together(RunAll all, double bytes) {
        run = [all](const Frame& frame, std::int64_t begin, std::int64_t end, Word* scratch) {
            all({&frame, 1}, begin, end, scratch);
        };
        run_all = std::move(all), again = bytes;
    }
};

class Program {
   public:
    // images: 1, or a multiple of 16. What the program needs of the network is copied.
    Program(const FusedNetwork& network, int images, const Kernels& kernels, const CostModel& costs, int threads);

    int images() const { return images_; }
    Frame make_frame(int threads) const;
    // One block of images on the calling thread.
    void run(const Frame& frame) const { run({&frame, 1}); }
    // Several, each in a frame of its own: the results are the same bits.
    void run(std::span<const Frame> frames) const;
    // How many images should be run so.
    std::int64_t together() const { return together_; }
    // The same on several threads: the result is the same bit for bit. ends: of every step, where that is asked for.
    void run_shared(const Frame& frame, int threads, std::chrono::steady_clock::time_point* ends = nullptr) const;
    // Seconds of every step: the fastest of `rounds` runs, on so many threads together.
    std::vector<double> time_steps(Frame& frame, int rounds, int threads) const;

    const std::vector<Step>& steps() const { return steps_; }
    std::size_t arena_bytes() const { return arena_words_ * sizeof(Word); }

   private:
    friend class Compiler;

    int images_;
    std::vector<Step> steps_;
    std::int64_t together_ = 1;
    Words shelf_;  // what the steps read in every run
    std::size_t arena_words_ = 0, scratch_words_ = 0;
    std::vector<std::pair<std::size_t, std::vector<Word>>> constants_;  // place in the arena, words
};

}  // namespace secateur
