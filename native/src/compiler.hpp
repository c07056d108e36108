// Turns the operations of a network into the steps of a program, each by its lowering (lowerings/lowering.hpp).
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "arena.hpp"
#include "convolution.hpp"
#include "folding.hpp"
#include "placement.hpp"
#include "program.hpp"
#include "setting.hpp"
#include "shelf.hpp"
#include "storage.hpp"

namespace secateur {

class Compiler {
   public:
    // folded: the network with its conversions between layouts; a program of several images has none.
    Compiler(const FoldedNetwork& folded, int images, const Kernels& kernels, const CostModel& costs, int threads,
             Program& program);

    void compile();

    // ---- What lowerings need ----

    const Setting& setting() const { return setting_; }
    int threads() const { return threads_; }
    Shelf& shelf() { return shelf_; }
    // Where a value lies in the arena.
    std::int64_t place(int value) const { return buffers_[placement_.buffer[value]].place + placement_.shift[value]; }
    Planes planes(int value) const {
        const Storage& s = setting_.storages[value];
        return {s.dims[0], s.dims[1], s.dims[2], s.strides[0], s.strides[1], s.strides[2], setting_.images};
    }
    // Whether part `index` of a concatenation is there already, `words` into it.
    bool holds(const Operation& operation, std::size_t index, std::int64_t words) const {
        return placement_.holds(operation, index, words);
    }
    // Whether a value has a border that somebody reads.
    bool fills(int value) const { return folded_.filled[value]; }
    void add_border(int value);
    // The next step of the program, valid until the one after it.
    Step& push(const Operation& operation, const std::string& kernel);
    void need_scratch(std::size_t words) { program_.scratch_words_ = std::max(program_.scratch_words_, words); }
    // What a value holds from the beginning and in every run.
    void keep(int value, std::vector<Word> words) {
        program_.constants_.emplace_back(static_cast<std::size_t>(place(value)), std::move(words));
    }

   private:
    // Of an input that nothing but one quantisation reads: that operation, else null.
    const Operation* quantisation_of(int index) const;
    bool quantises_input(const Operation& operation) const;
    void add_quantised_input(int index, const Operation& operation);
    void place_values();
    void touch(int value, int step);
    Step& push(const std::string& name, const std::string& operations, const Shape& shape, const std::string& kernel);
    void add_input(int index);
    void add_output(int index);

    const FoldedNetwork& folded_;
    const FusedNetwork& network_;
    const Setting setting_;
    const int threads_;
    Program& program_;
    const Placement placement_;
    std::vector<Buffer> buffers_;  // of values that lie in their own
    Shelf shelf_;
};

}  // namespace secateur
