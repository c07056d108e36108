// A network that can be run on any number of images, from any thread.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "secateur/program.hpp"
#include "secateur/threads.hpp"

namespace secateur {

// Part of a batch: `count` blocks of `block` images, the last of which may be fewer in truth. Of every block the
// operations before `cut` run image by image, while planes are large and one image fits into a near cache; the others
// with the images of the block side by side.
struct Part {
    int block;
    int cut;
    std::int64_t count;
};

struct TimedStep {
    StepReport report;
    int images;      // of one run of the step
    double seconds;  // of one run; negative: not measured
};

class Session {
   public:
    // The arrays of network are read until every program is made: the caller keeps them alive.
    Session(const Network& network, const Kernels& kernels, const Costs& costs, int threads);

    // inputs, outputs: one float32 array each, C-contiguous, the images first.
    void run(const float* const* inputs, float* const* outputs, std::int64_t images);

    // How a batch is divided.
    std::vector<Part> divide(std::int64_t images);
    // The steps of a part, each timed `rounds` times.
    std::vector<TimedStep> steps(const Part& part, int rounds);
    std::size_t arena_bytes(const Part& part);

   private:
    // Some of the operations, for one layout.
    struct Compiled {
        std::unique_ptr<Program> program;
        int threads = 1;  // that may run it together
        std::vector<Frame> idle;
    };
    // The two halves of a part: either may be null.
    struct Halves {
        Compiled* head;
        Compiled* tail;
        std::int64_t between;  // floats per image that the head hands to the tail
    };

    Part best_part(std::int64_t images);
    const std::vector<double>& cycles(int images);
    bool clean(int cut) const;
    int handed_over(int cut) const;
    FusedNetwork slice(int begin, int end) const;
    // How many of its blocks threads run side by side, each a whole one, without waiting for one another; the rest they
    // run together.
    std::int64_t apart(const Part& part) const;
    Halves halves(const Part& part, int threads);
    Compiled& compiled(int images, int begin, int end, int threads);
    Frame borrow(Compiled& compiled);
    void give_back(Compiled& compiled, Frame frame);
    void run_block(const Halves& halves, const Part& part, const float* const* inputs, float* const* outputs,
                   std::int64_t first, std::int64_t valid, int threads);
    void run_program(Compiled& compiled, const std::vector<const float*>& inputs, const std::vector<float*>& outputs,
                     std::int64_t valid, int threads);
    void run_images(Compiled& compiled, const float* const* inputs, const std::vector<std::int64_t>& input_sizes,
                    float* const* outputs, const std::vector<std::int64_t>& output_sizes, std::int64_t first,
                    std::int64_t images, int threads);

    FusedNetwork network_;
    std::vector<int> handed_over_;  // by cut
    const Kernels& kernels_;
    const Costs costs_;
    const int threads_;
    std::vector<std::int64_t> input_sizes_, output_sizes_;
    ForkSafeMutex mutex_;
    std::map<std::tuple<int, int, int, int>, Compiled> programs_;  // by images, operations [begin, end), threads
    std::map<int, std::vector<double>> cycles_;
    std::map<std::int64_t, std::vector<Part>> divisions_;
};

}  // namespace secateur
