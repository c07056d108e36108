#include "secateur/costs.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>

#include "convolution_problem.hpp"
#include "kernels.hpp"
#include "memory.hpp"

namespace secateur {
namespace {

constexpr int kNonzeros = 128, kRounds = 9;

// Seconds of the fastest of several rounds: what the machine does when it does nothing else.
double fastest(const std::function<void()>& work) {
    work();
    double best = 1e9;
    for (int round = 0; round < kRounds; ++round) {
        const auto start = std::chrono::steady_clock::now();
        work();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        best = std::min(best, took.count());
    }
    return best;
}

class Bench {
   public:
    Bench(const Kernels& kernels, bool bytes)
        : kernels_(kernels), bytes_(bytes), variants_(variants_of(kernels, bytes)), inputs_(make_words(kWords + 4096)),
          sums_(make_words(kOutputs * 16 * 16)), outputs_(make_words(kOutputs * 16 * 16)) {
        bias_.assign(kOutputs + 16, 0.0f);
        multipliers_.assign(kOutputs + 16, 1e-3f);
        for (int t = 0; t < 32; ++t) places_.push_back(t * kernels.lanes);
    }

    // Seconds per vector multiply-add of the best dense kernel.
    double multiply_add() const {
        double best = 1e9;
        for (const TileVariant& variant : variants_) {
            if (!variant.dense || variant.rows != 1) continue;
            best = std::min(
                best, run(variant, kNonzeros, 16e3, kFirst | kLast) / (kNonzeros * variant.outputs * variant.columns));
        }
        return best;
    }

    // Seconds per non-zero of tiles of `columns` vectors, from packed blocks of so many bytes.
    double nonzero(int columns, double bytes) const {
        const TileVariant& variant = sparse(columns);
        return run(variant, kNonzeros, bytes, kFirst | kLast) / (kNonzeros * lists_of(variant));
    }

    // Seconds per vector of accumulators that is loaded and stored again, in L2.
    double sums() const {
        const int lists = lists_of(sparse(8));
        return run(sparse(8), 8, 16e3, 0) / (8 * lists) - nonzero(8, 16e3);
    }

    // Seconds per vector of accumulators that is made what is stored, beside those of what is added up in it.
    double finish() const {
        const int lists = lists_of(sparse(8));
        return std::max(0.0, run(sparse(8), 8, 16e3, kFirst | kLast) / lists - 8 * nonzero(8, 16e3)) / 8;
    }

    // Seconds per vector that packing copies.
    double pixels() const {
        constexpr int kChannels = 16, kPieces = 4, kPixels = 6;
        const int lanes = kernels_.lanes;
        std::vector<PixelPiece> pieces;
        for (int i = 0; i < kPieces; ++i) pieces.push_back({i * 40 * lanes, i * kPixels * lanes, kPixels});
        PixelPack pack{};
        pack.source = inputs_.get(), pack.source_stride = 256 * lanes, pack.step = lanes;
        pack.target = target(), pack.target_stride = kPieces * kPixels * lanes;
        pack.pieces = pieces.data(), pack.piece_count = kPieces, pack.channels = kChannels, pack.width = lanes;
        return fastest([&] { kernels_.pack_pixels(pack); }) / static_cast<double>(kChannels * kPieces * kPixels);
    }

    // Seconds per piece of a row with three shifted copies.
    double rows() const {
        constexpr int kChannels = 32, kPieces = 6;
        const std::int32_t shifts[] = {0, 1, 2};
        std::vector<RowPiece> pieces;
        for (int i = 0; i < kPieces; ++i) pieces.push_back({i * 32, i * 16, 0x3ffff, 16});
        RowPack pack{};
        pack.source = inputs_.get(), pack.source_stride = 1024;
        pack.target = target(), pack.target_stride = 3 * kPieces * 16, pack.copy_stride = kPieces * 16;
        pack.pieces = pieces.data(), pack.piece_count = kPieces, pack.channels = kChannels;
        pack.shifts = shifts, pack.copies = 3, pack.stride = 1;
        return fastest([&] { kernels_.pack_rows(pack); }) / static_cast<double>(kChannels * kPieces);
    }

    // Seconds per vector that Winograd's transform of inputs writes.
    double transform() const {
        constexpr int kChannels = 16;
        const WinogradTransform& last = kernels_.transforms[kernels_.transform_count - 1];
        const int lanes = kernels_.lanes, side = last.outputs + 2;
        WinogradInputs run{};
        run.source = as_floats(inputs_.get()), run.channel = 64 * lanes, run.row = 8 * lanes, run.column = lanes;
        run.bottom = run.right = side, run.channels = kChannels;
        run.target = as_floats(target()), run.target_channel = lanes, run.frequency = (kChannels + 1) * lanes;
        return fastest([&] { last.transform_inputs(run); }) / static_cast<double>(kChannels * side * side);
    }

   private:
    static constexpr std::size_t kWords = 140'000;
    static constexpr int kOutputs = 256;

    Word* target() const { return inputs_.get() + kWords / 16 / 2 * 16; }

    static std::span<const TileVariant> variants_of(const Kernels& kernels, bool bytes) {
        if (bytes) return {kernels.bytes->variants, static_cast<std::size_t>(kernels.bytes->variant_count)};
        return {kernels.variants, static_cast<std::size_t>(kernels.variant_count)};
    }

    // Lists of non-zeros that an entry of sparse tiles has.
    static int lists_of(const TileVariant& variant) { return variant.outputs; }

    const TileVariant& sparse(int columns) const {
        for (const TileVariant& variant : variants_)
            if (!variant.dense && !variant.patterns && variant.rows == 1 && variant.columns == columns) return variant;
        throw std::logic_error("no kernel of that tile");
    }

    // Seconds per entry of so many non-zeros: as many entries as make a measurement, spread over all outputs.
    double run(const TileVariant& variant, int nonzeros, double bytes, int flags) const {
        const int lists = variant.dense ? 1 : lists_of(variant), vectors = variant.columns;
        const int count = std::min(4096 / nonzeros, kOutputs - 16) / (bytes_ ? 4 : 1);
        const std::uint32_t lines = static_cast<std::uint32_t>(bytes / 64) - 16;
        std::vector<std::uint16_t> offsets;
        std::uint32_t state = 1;
        for (int i = 0; i < count * nonzeros * lists; ++i) {
            state = state * 1664525u + 1013904223u;
            offsets.push_back(static_cast<std::uint16_t>((state >> 8) % lines * 8));
        }
        std::vector<Entry> entries;
        for (int i = 0; i < count; ++i)
            entries.push_back({static_cast<std::uint32_t>(i * ((kOutputs - 16) / count) / 4 * 4),
                               static_cast<std::uint16_t>(flags),
                               {}});
        for (Entry& entry : entries) std::fill_n(entry.counts, lists, static_cast<std::uint16_t>(nonzeros));
        const std::vector<Word> weights(static_cast<std::size_t>(count * nonzeros * variant.outputs) + kOverread,
                                        bytes_ ? Word{0x01ff01ff} : as_word(0.5f));
        TileRun tile{};
        tile.inputs = inputs_.get(), tile.entries = entries.data(), tile.entry_count = entries.size();
        tile.weights = weights.data(), tile.offsets = offsets.data(), tile.sums = sums_.get(),
        tile.bias = as_words(bias_.data());
        tile.output = outputs_.get(), tile.channel_stride = vectors * kernels_.lanes, tile.places = places_.data();
        tile.valid = vectors == 32 ? ~0u : (1u << vectors) - 1;
        tile.low = -1e30f, tile.high = 1e30f;
        tile.end = {multipliers_.data(), 1.0f, 0, 0, 0.0f, 255.0f, false, INT32_MAX, true};
        return fastest([&] { variant.run(tile); }) / count;
    }

    const Kernels& kernels_;
    const bool bytes_;
    const std::span<const TileVariant> variants_;
    Words inputs_, sums_, outputs_;
    std::vector<float> bias_, multipliers_;
    std::vector<std::int32_t> places_;
};

double near(double value, double built_in) { return std::clamp(value, built_in / 4, built_in * 4); }

using Member = double Costs::*;
constexpr Member kMembers[] = {&Costs::load,   &Costs::nonzero, &Costs::sums,     &Costs::finish,
                               &Costs::pixels, &Costs::rows,    &Costs::transform};

Costs measure(const Kernels& kernels, bool bytes) {
    const Bench bench(kernels, bytes);
    const Costs& built_in = bytes ? kernels.bytes->costs : kernels.costs;
    const Cycles& cycles = bytes ? kernels.bytes->cycles : kernels.cycles;
    Costs costs = built_in;
    const double unit = bench.multiply_add(), four = bench.nonzero(4, 16e3) / unit,
                 eight = bench.nonzero(8, 16e3) / unit;
    costs.load = near((eight - four) / 4, built_in.load);
    costs.nonzero = near(eight - 8 * costs.load, built_in.nonzero);
    costs.sums = near(bench.sums() / unit, built_in.sums);
    if (bytes) costs.finish = near(bench.finish() / unit, built_in.finish);
    costs.pixels = near(bench.pixels() / unit, built_in.pixels);
    costs.rows = near(bench.rows() / unit / (row_cycles(kernels.cycles, 1, 3) / cycles.multiply_add), built_in.rows);
    if (!bytes) costs.transform = near(bench.transform() / unit, built_in.transform);
    double last = 1.0;
    for (std::size_t i = 0; i < costs.distance.size(); ++i) {
        const double factor = bench.nonzero(8, Costs::kBytes[i]) / unit / eight;
        last = costs.distance[i] = std::max(last, near(factor, built_in.distance[i]));
    }
    return costs;
}

}  // namespace

std::vector<double> CostModel::values() const {
    std::vector<double> all;
    for (const Costs* each : {&floats, &bytes}) {
        for (const Member member : kMembers) all.push_back(each->*member);
        all.insert(all.end(), each->distance.begin(), each->distance.end());
    }
    return all;
}

CostModel CostModel::of(const std::vector<double>& values) {
    CostModel model;
    if (values.size() != model.values().size())
        throw std::invalid_argument("another number of costs than the model has");
    auto next = values.begin();
    for (Costs* each : {&model.floats, &model.bytes}) {
        for (const Member member : kMembers) each->*member = *next++;
        for (double& factor : each->distance) factor = *next++;
    }
    return model;
}

CostModel built_in_costs(const Kernels& kernels) { return {kernels.costs, kernels.bytes->costs}; }

double peak_rate(const Kernels& kernels, bool bytes) {
    return (bytes ? 4 : 1) * kernels.lanes / Bench(kernels, bytes).multiply_add();
}

CostModel measure_costs(const Kernels& kernels) { return {measure(kernels, false), measure(kernels, true)}; }

}  // namespace secateur
