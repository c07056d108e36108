// A network that can be run on any number of images, from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "secateur/costs.hpp"
#include "secateur/graph.hpp"
#include "secateur/plan.hpp"

namespace secateur {

struct Kernels;

class Session {
   public:
    // The arrays of network are read until every program is made: the caller keeps them alive.
    Session(const Network& network, const Kernels& kernels, const CostModel& costs, int threads);
    ~Session();

    // inputs, outputs: the first of one array each, C-contiguous, the images first, of whole words (float32).
    void run(const void* const* inputs, void* const* outputs, std::int64_t images);

    // How a batch is divided.
    std::vector<Part> divide(std::int64_t images);
    // The steps of a part, each timed `rounds` times on noise. places: inputs that hold whole numbers, which may say where
    // to look: of those zeros.
    std::vector<TimedStep> steps(const Part& part, int rounds, const std::vector<int>& places = {});
    std::size_t arena_bytes(const Part& part);

   private:
    class Runner;
    std::unique_ptr<Runner> runner_;
};

}  // namespace secateur
