// What runs a graph: a session, or, where the graph mixes images, one for each part that can run at once.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "entries.hpp"
#include "secateur/session.hpp"

namespace secateur::packfile {

struct Setting {
    const Kernels& kernels;
    const CostModel& costs;
    int threads;
};

class Engine {
   public:
    // Of a graph without free lengths. The weights are kept by the caller. Throws GraphError and Unsupported.
    Engine(const Graph& graph, const Checked& checked, const Weights& weights, const Setting& setting);
    ~Engine();

    // Arrays of float32, whole numbers and truth values too, the images first. By several threads at once.
    void run(const void* const* inputs, void* const* outputs, std::int64_t images) const;

   private:
    struct Whole;
    class Staged;

    std::unique_ptr<Whole> whole_;
    std::unique_ptr<Staged> staged_;
};

}  // namespace secateur::packfile
