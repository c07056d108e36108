// A network that can be run on any number of images, from any thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "secateur/program.hpp"

namespace secateur {

class Session {
   public:
    // The arrays of network are read until every program is made: the caller keeps them alive.
    Session(const Network& network, const Kernels& kernels, int threads);

    // inputs, outputs: one float32 array each, C-contiguous, the images first.
    void run(const float* const* inputs, float* const* outputs, std::int64_t images);

    const Kernels& kernels() const { return kernels_; }
    int threads() const { return threads_; }

    struct Part {
        int block;           // images of the program
        std::int64_t count;  // of such blocks; the last may hold fewer real images
    };
    // How a batch is divided.
    std::vector<Part> divide(std::int64_t images);
    const Program& program(int block);
    // Seconds of every step of the program for blocks of that many images.
    std::vector<double> time_steps(int block, int rounds);

   private:
    struct Compiled {
        std::unique_ptr<Program> program;
        std::vector<Frame> idle;
    };

    Compiled& compiled(int block);
    Frame borrow(Compiled& compiled);
    void give_back(Compiled& compiled, Frame frame);
    void run_block(Compiled& compiled, Frame& frame, const float* const* inputs, float* const* outputs, std::int64_t first,
                   std::int64_t valid, bool shared);
    int block_for(std::int64_t images) const;

    FusedNetwork network_;
    const Kernels& kernels_;
    const int threads_;
    std::vector<std::int64_t> input_sizes_, output_sizes_;
    int preferred_;
    std::mutex mutex_;
    std::map<int, Compiled> programs_;
    std::map<std::int64_t, std::vector<Part>> divisions_;
};

}  // namespace secateur
