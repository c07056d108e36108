#include "secateur/costs.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
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
    explicit Bench(const Kernels& kernels)
        : kernels_(kernels), inputs_(make_words(kWords + 4096)), sums_(make_words(kOutputs * 16 * 16)),
          outputs_(make_words(kOutputs * 16 * 16)) {
        bias_.assign(kOutputs + 16, 0.0f);
        for (int t = 0; t < 32; ++t) places_.push_back(t * kernels.lanes);
    }

    // Seconds per vector multiply-add of the best dense kernel.
    double multiply_add() const {
        double best = 1e9;
        for (int v = 0; v < kernels_.variant_count; ++v) {
            const TileVariant& variant = kernels_.variants[v];
            if (!variant.dense || variant.rows != 1) continue;
            best = std::min(
                best, run(variant, kNonzeros, 16e3, kFirst | kLast) / (kNonzeros * variant.outputs * variant.columns));
        }
        return best;
    }

    // Seconds per non-zero of tiles of `columns` vectors, from packed blocks of so many bytes.
    double nonzero(int columns, double bytes) const {
        return run(sparse(columns), kNonzeros, bytes, kFirst | kLast) / kNonzeros;
    }

    // Seconds per vector of accumulators that is loaded and stored again, in L2.
    double sums() const { return run(sparse(8), 8, 16e3, 0) / 8 - nonzero(8, 16e3); }

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

    const TileVariant& sparse(int columns) const {
        for (int v = 0; v < kernels_.variant_count; ++v) {
            const TileVariant& variant = kernels_.variants[v];
            if (variant.outputs == 1 && variant.rows == 1 && variant.columns == columns) return variant;
        }
        throw std::logic_error("no kernel of that tile");
    }

    // Seconds per entry of so many non-zeros: as many entries as make a measurement, spread over all outputs.
    double run(const TileVariant& variant, int nonzeros, double bytes, int flags) const {
        const int count = std::min(4096 / nonzeros, kOutputs - 16), vectors = variant.columns;
        const std::uint32_t lines = static_cast<std::uint32_t>(bytes / 64) - 16;
        std::vector<std::uint16_t> offsets;
        std::uint32_t state = 1;
        for (int i = 0; i < count * nonzeros; ++i) {
            state = state * 1664525u + 1013904223u;
            offsets.push_back(static_cast<std::uint16_t>((state >> 8) % lines * 8));
        }
        std::vector<Entry> entries;
        for (int i = 0; i < count; ++i)
            entries.push_back({static_cast<std::uint32_t>(i * ((kOutputs - 16) / count)),
                               static_cast<std::uint16_t>(flags),
                               {static_cast<std::uint16_t>(nonzeros), 0, 0}});
        const std::vector<float> weights(static_cast<std::size_t>(count * nonzeros * variant.outputs) + kOverread,
                                         0.5f);
        TileRun tile{};
        tile.inputs = inputs_.get(), tile.entries = entries.data(), tile.entry_count = entries.size();
        tile.weights = as_words(weights.data()), tile.offsets = offsets.data(), tile.sums = sums_.get(),
        tile.bias = as_words(bias_.data());
        tile.output = outputs_.get(), tile.channel_stride = vectors * kernels_.lanes, tile.places = places_.data();
        tile.valid = vectors == 32 ? ~0u : (1u << vectors) - 1;
        tile.low = -1e30f, tile.high = 1e30f;
        return fastest([&] { variant.run(tile); }) / count;
    }

    const Kernels& kernels_;
    Words inputs_, sums_, outputs_;
    std::vector<float> bias_;
    std::vector<std::int32_t> places_;
};

double near(double value, double built_in) { return std::clamp(value, built_in / 4, built_in * 4); }

}  // namespace

std::vector<double> Costs::values() const {
    std::vector<double> all{load, nonzero, sums, pixels, rows, transform};
    all.insert(all.end(), distance.begin(), distance.end());
    return all;
}

Costs Costs::of(const std::vector<double>& values) {
    Costs costs;
    if (values.size() != costs.values().size())
        throw std::invalid_argument("another number of costs than the model has");
    costs.load = values[0], costs.nonzero = values[1], costs.sums = values[2], costs.pixels = values[3],
    costs.rows = values[4], costs.transform = values[5];
    std::copy(values.begin() + 6, values.end(), costs.distance.begin());
    return costs;
}

const Costs& built_in_costs(const Kernels& kernels) { return kernels.costs; }

double peak_rate(const Kernels& kernels) { return kernels.lanes / Bench(kernels).multiply_add(); }

Costs measure_costs(const Kernels& kernels) {
    const Bench bench(kernels);
    const Costs& built_in = kernels.costs;
    Costs costs;
    const double unit = bench.multiply_add(), four = bench.nonzero(4, 16e3) / unit,
                 eight = bench.nonzero(8, 16e3) / unit;
    costs.load = near((eight - four) / 4, built_in.load);
    costs.nonzero = near(eight - 8 * costs.load, built_in.nonzero);
    costs.sums = near(bench.sums() / unit, built_in.sums);
    costs.pixels = near(bench.pixels() / unit, built_in.pixels);
    costs.rows =
        near(bench.rows() / unit / (row_cycles(kernels.cycles, 1, 3) / kernels.cycles.multiply_add), built_in.rows);
    costs.transform = near(bench.transform() / unit, built_in.transform);
    double last = 1.0;
    for (std::size_t i = 0; i < costs.distance.size(); ++i) {
        const double factor = bench.nonzero(8, Costs::kBytes[i]) / unit / eight;
        last = costs.distance[i] = std::max(last, near(factor, built_in.distance[i]));
    }
    return costs;
}

}  // namespace secateur
