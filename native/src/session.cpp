#include "secateur/session.hpp"

#include <algorithm>
#include <atomic>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "fusion.hpp"
#include "prediction.hpp"
#include "program.hpp"
#include "threads.hpp"

namespace secateur {
namespace {

// Whoever fails takes what is left of `count` pieces, so that nobody else begins any.
template <typename Work>
auto or_stop(std::atomic<std::int64_t>& taken, std::int64_t count, const Work& work) {
    return [&taken, count, work](int) {
        try {
            work();
        } catch (...) {
            taken = count;
            throw;
        }
    };
}

// What one image is given and gives.
struct Ends {
    std::vector<const Word*> inputs;
    std::vector<Word*> outputs;
};

constexpr std::int64_t kIdleFrames = 4;
constexpr int kBlocks[] = {16, 32, 64, 128};
constexpr std::int64_t kBlocksToShare = 2;
constexpr double kMuch = 4e6;      // cycles
constexpr double kHandOver = 1.2;  // cycles per word and image between the two layouts

// For every cut, the only value that operations before it make and others read, −1 where there are several or none.
std::vector<int> find_handed_over(const FusedNetwork& network) {
    const std::size_t all = network.operations.size();
    std::vector<std::size_t> made(network.shapes.size(), 0),
        read(network.shapes.size(), 0);  // a cut before, from which on; 0: never
    for (std::size_t i = 0; i < all; ++i) {
        made[network.operations[i].output] = i + 1;
        for (int value : network.operations[i].inputs) read[value] = i;
    }
    std::size_t first = 0, last = all;  // cuts behind all readers of the inputs, before all outputs
    for (int value : network.inputs) first = std::max(first, read[value] + 1);
    for (int value : network.outputs) last = made[value] == 0 ? 0 : std::min(last, made[value] - 1);
    std::vector<std::int64_t> count(all + 2, 0), sum(all + 2, 0);  // of the values that cross a cut, as differences
    for (std::size_t value = 0; value < made.size(); ++value) {
        if (made[value] == 0 || read[value] < made[value]) continue;
        ++count[made[value]], --count[read[value] + 1];
        sum[made[value]] += static_cast<std::int64_t>(value), sum[read[value] + 1] -= static_cast<std::int64_t>(value);
    }
    std::vector<int> found(all + 1, -1);
    std::int64_t crossing = 0, total = 0;
    for (std::size_t cut = 0; cut <= all; ++cut) {
        crossing += count[cut], total += sum[cut];
        if (crossing == 1 && cut >= first && cut <= last) found[cut] = static_cast<int>(total);
    }
    return found;
}

}  // namespace

class Session::Runner {
   public:
    Runner(const Network& network, const Kernels& kernels, const CostModel& costs, int threads);

    void run(const void* const* inputs, void* const* outputs, std::int64_t images);
    std::vector<Part> divide(std::int64_t images);
    std::vector<TimedStep> steps(const Part& part, int rounds, const std::vector<int>& places);
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
        std::int64_t between;  // words per image that the head hands to the tail
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
    std::vector<Frame> borrow(Compiled& compiled, std::int64_t count);
    void give_back(Compiled& compiled, Frame frame);
    void run_block(const Halves& halves, const Part& part, const void* const* inputs, void* const* outputs,
                   std::int64_t first, std::int64_t valid, int threads);
    void run_program(Compiled& compiled, const std::vector<const Word*>& inputs, const std::vector<Word*>& outputs,
                     std::int64_t valid, int threads);
    void run_images(Compiled& compiled, const void* const* inputs, const std::vector<std::int64_t>& input_sizes,
                    void* const* outputs, const std::vector<std::int64_t>& output_sizes, std::int64_t first,
                    std::int64_t images, int threads);

    FusedNetwork network_;
    std::vector<int> handed_over_;  // by cut
    const Kernels& kernels_;
    const CostModel costs_;
    const int threads_;
    std::vector<std::int64_t> input_sizes_, output_sizes_;
    ForkSafeMutex mutex_;
    std::map<std::tuple<int, int, int, int>, Compiled> programs_;  // by images, operations [begin, end), threads
    std::map<int, std::vector<double>> cycles_;
    std::map<std::int64_t, std::vector<Part>> divisions_;
};

Session::Runner::Runner(const Network& network, const Kernels& kernels, const CostModel& costs, int threads)
    : network_(fuse(network)), handed_over_(find_handed_over(network_)), kernels_(kernels), costs_(costs),
      threads_(threads) {
    for (int value : network_.inputs) input_sizes_.push_back(elements(network_.shapes[value]));
    for (int value : network_.outputs) output_sizes_.push_back(elements(network_.shapes[value]));
}

// ---- Dividing a batch -------------------------------------------------------------------------------------------

int Session::Runner::handed_over(int cut) const { return handed_over_[static_cast<std::size_t>(cut)]; }

bool Session::Runner::clean(int cut) const {
    const int all = static_cast<int>(network_.operations.size());
    return cut == 0 || cut == all || handed_over(cut) >= 0;
}

const std::vector<double>& Session::Runner::cycles(int images) {
    const std::lock_guard lock(mutex_);
    auto& found = cycles_[images];
    if (found.empty()) found = predict_cycles(network_, images, kernels_, costs_);
    return found;
}

Part Session::Runner::best_part(std::int64_t images) {
    const int all = static_cast<int>(network_.operations.size());
    Part best{1, all, images};
    const auto& singly = cycles(1);
    const double one = std::accumulate(singly.begin(), singly.end(), 0.0);  // per image
    double least = one;
    if (images == 1) return best;
    for (int block : kBlocks) {
        if (block > 16 && block / 2 >= images) break;
        // Where there is much to do, several blocks, so that threads need not wait for one another; whatever the number of
        // threads, since other blocks may add up in another order.
        if (block > 16 && images / block < kBlocksToShare && one * static_cast<double>(images) > kMuch) break;
        const std::int64_t count = std::max<std::int64_t>(1, images / block);
        const std::int64_t real = std::min<std::int64_t>(images, count * block);
        const auto& together = cycles(block);
        const double share = static_cast<double>(count) / static_cast<double>(real);
        double before = 0, behind = std::accumulate(together.begin(), together.end(), 0.0);
        for (int cut = 0; cut < all; before += singly[cut], behind -= together[cut], ++cut) {
            double cost = before + behind * share;
            if (cost >= least || !clean(cut)) continue;
            if (cut > 0) cost += kHandOver * static_cast<double>(elements(network_.shapes[handed_over(cut)]));
            if (cost < least) least = cost, best = {block, cut, count};
        }
    }
    return best;
}

std::vector<Part> Session::Runner::divide(std::int64_t images) {
    {
        const std::lock_guard lock(mutex_);
        const auto found = divisions_.find(images);
        if (found != divisions_.end()) return found->second;
    }
    std::vector<Part> parts;
    for (std::int64_t left = images; left > 0;) {
        parts.push_back(best_part(left));
        left -= std::min(left, parts.back().block * parts.back().count);
    }
    const std::lock_guard lock(mutex_);
    if (divisions_.size() > 256) divisions_.clear();
    return divisions_[images] = parts;
}

// ---- Programs and their memory ----------------------------------------------------------------------------------

FusedNetwork Session::Runner::slice(int begin, int end) const {
    const int all = static_cast<int>(network_.operations.size());
    FusedNetwork part{network_.shapes,   {network_.operations.begin() + begin, network_.operations.begin() + end},
                      network_.inputs,   network_.outputs,
                      network_.elements, network_.whole,
                      network_.fills};
    if (begin > 0) part.inputs = {handed_over(begin)};
    if (end < all) part.outputs = {handed_over(end)};
    return part;
}

Session::Runner::Compiled& Session::Runner::compiled(int images, int begin, int end, int threads) {
    const std::lock_guard lock(mutex_);
    Compiled& found = programs_[{images, begin, end, threads}];
    if (!found.program)
        found.program = std::make_unique<Program>(slice(begin, end), images, kernels_, costs_, threads),
        found.threads = threads;
    return found;
}

std::int64_t Session::Runner::apart(const Part& part) const {
    if (part.block == 1) return part.count >= threads_ ? part.count : 0;
    return threads_ > 1 ? part.count / threads_ * threads_ : 0;
}

Session::Runner::Halves Session::Runner::halves(const Part& part, int threads) {
    const int all = static_cast<int>(network_.operations.size());
    if (part.block == 1) return {&compiled(1, 0, all, threads), nullptr, 0};
    if (part.cut == 0) return {nullptr, &compiled(part.block, 0, all, threads), 0};
    return {&compiled(1, 0, part.cut, 1), &compiled(part.block, part.cut, all, threads),
            elements(network_.shapes[handed_over(part.cut)])};
}

Frame Session::Runner::borrow(Compiled& compiled) {
    {
        const std::lock_guard lock(mutex_);
        if (!compiled.idle.empty()) {
            Frame frame = std::move(compiled.idle.back());
            compiled.idle.pop_back();
            return frame;
        }
    }
    return compiled.program->make_frame(compiled.threads);
}

std::vector<Frame> Session::Runner::borrow(Compiled& compiled, std::int64_t count) {
    std::vector<Frame> frames;
    while (static_cast<std::int64_t>(frames.size()) < count) frames.push_back(borrow(compiled));
    return frames;
}

void Session::Runner::give_back(Compiled& compiled, Frame frame) {
    const std::lock_guard lock(mutex_);
    if (static_cast<std::int64_t>(compiled.idle.size()) < kIdleFrames + threads_ * compiled.program->together())
        compiled.idle.push_back(std::move(frame));
}

// ---- Running ----------------------------------------------------------------------------------------------------

void Session::Runner::run_program(Compiled& compiled, const std::vector<const Word*>& inputs,
                                  const std::vector<Word*>& outputs, std::int64_t valid, int threads) {
    Frame frame = borrow(compiled);
    frame.inputs = inputs.data(), frame.outputs = outputs.data(), frame.valid = static_cast<int>(valid);
    if (threads > 1) compiled.program->run_shared(frame, threads);
    else compiled.program->run(frame);
    give_back(compiled, std::move(frame));
}

// Images one after another, or as many together as the program wants, on several threads.
void Session::Runner::run_images(Compiled& compiled, const void* const* inputs,
                                 const std::vector<std::int64_t>& input_sizes, void* const* outputs,
                                 const std::vector<std::int64_t>& output_sizes, std::int64_t first, std::int64_t images,
                                 int threads) {
    const std::int64_t together = std::min(compiled.program->together(), (images + threads - 1) / threads);
    std::atomic<std::int64_t> taken{0};
    const auto prepare = [&](Frame& frame, Ends& ends, std::int64_t image) {
        for (std::size_t i = 0; i < input_sizes.size(); ++i)
            ends.inputs[i] = static_cast<const Word*>(inputs[i]) + (first + image) * input_sizes[i];
        for (std::size_t i = 0; i < output_sizes.size(); ++i)
            ends.outputs[i] = static_cast<Word*>(outputs[i]) + image * output_sizes[i];
        frame.inputs = ends.inputs.data(), frame.outputs = ends.outputs.data(), frame.valid = 1;
    };
    const auto some = [&] {
        std::int64_t image = taken.fetch_add(together);
        if (image >= images) return;
        std::vector<Frame> frames = borrow(compiled, std::min(together, images - image));
        std::vector<Ends> ends(
            frames.size(), Ends{std::vector<const Word*>(input_sizes.size()), std::vector<Word*>(output_sizes.size())});
        for (; image < images; image = taken.fetch_add(together)) {
            const auto count = static_cast<std::size_t>(std::min(together, images - image));
            for (std::size_t i = 0; i < count; ++i) prepare(frames[i], ends[i], image + static_cast<std::int64_t>(i));
            compiled.program->run({frames.data(), count});
        }
        for (Frame& frame : frames) give_back(compiled, std::move(frame));
    };
    const std::int64_t pieces = (images + together - 1) / together;
    run_together(static_cast<int>(std::min<std::int64_t>(threads, pieces)), or_stop(taken, images, some));
}

void Session::Runner::run_block(const Halves& halves, const Part& part, const void* const* inputs, void* const* outputs,
                                std::int64_t first, std::int64_t valid, int threads) {
    std::vector<const Word*> from;
    std::vector<Word*> to;
    for (std::size_t i = 0; i < input_sizes_.size(); ++i)
        from.push_back(static_cast<const Word*>(inputs[i]) + first * input_sizes_[i]);
    for (std::size_t i = 0; i < output_sizes_.size(); ++i)
        to.push_back(static_cast<Word*>(outputs[i]) + first * output_sizes_[i]);
    if (halves.head == nullptr) return run_program(*halves.tail, from, to, valid, threads);
    if (halves.tail == nullptr) return run_program(*halves.head, from, to, valid, threads);
    const Words between = make_words(static_cast<std::size_t>(halves.between * part.block));
    void* handed = between.get();
    run_images(*halves.head, inputs, input_sizes_, &handed, {halves.between}, first, valid, threads);
    run_program(*halves.tail, {between.get()}, to, valid, threads);
}

void Session::Runner::run(const void* const* inputs, void* const* outputs, std::int64_t images) {
    std::int64_t first = 0;
    for (const Part& part : divide(images)) {
        const std::int64_t covered = std::min(images - first, part.block * part.count);
        const auto valid = [&](std::int64_t index) {
            return std::min<std::int64_t>(part.block, covered - index * part.block);
        };
        const std::int64_t side_by_side = apart(part);
        if (side_by_side > 0 && part.block == 1) {
            std::vector<void*> to;
            for (std::size_t i = 0; i < output_sizes_.size(); ++i)
                to.push_back(static_cast<Word*>(outputs[i]) + first * output_sizes_[i]);
            run_images(*halves(part, 1).head, inputs, input_sizes_, to.data(), output_sizes_, first, covered, threads_);
        } else if (side_by_side > 0) {
            const Halves programs = halves(part, 1);
            std::atomic<std::int64_t> taken{0};
            run_together(threads_, or_stop(taken, side_by_side, [&] {
                             for (std::int64_t i; (i = taken.fetch_add(1)) < side_by_side;)
                                 run_block(programs, part, inputs, outputs, first + i * part.block, valid(i), 1);
                         }));
        }
        for (std::int64_t i = side_by_side; i < part.count; ++i)
            run_block(halves(part, threads_), part, inputs, outputs, first + i * part.block, valid(i), threads_);
        first += covered;
    }
}

// ---- Explaining -------------------------------------------------------------------------------------------------

std::vector<TimedStep> Session::Runner::steps(const Part& part, int rounds, const std::vector<int>& places) {
    const Halves programs = halves(part, apart(part) > 0 ? 1 : threads_);
    std::vector<TimedStep> found;
    for (Compiled* half : {programs.head, programs.tail}) {
        if (half == nullptr) continue;
        const Program& program = *half->program;
        std::vector<double> seconds(program.steps().size(), -1.0);
        if (rounds > 0) {
            Frame frame = borrow(*half);
            const bool first = half == programs.head || programs.head == nullptr,
                       last = half == programs.tail || programs.tail == nullptr;
            const std::vector<std::int64_t> between{programs.between};
            std::vector<std::vector<float>> inputs, outputs;
            std::vector<const Word*> from;
            std::vector<Word*> to;
            unsigned state = 1;
            for (auto size : first ? input_sizes_ : between) {
                inputs.emplace_back(static_cast<std::size_t>(size * program.images()));
                const int index = static_cast<int>(from.size());
                from.push_back(as_words(inputs.back().data()));
                if (first && std::find(places.begin(), places.end(), index) != places.end()) continue;
                for (float& each : inputs.back())
                    state = state * 1664525u + 1013904223u, each = static_cast<float>(state >> 8) / 16777216.0f - 0.5f;
            }
            for (auto size : last ? output_sizes_ : between) {
                outputs.emplace_back(static_cast<std::size_t>(size * program.images()));
                to.push_back(as_words(outputs.back().data()));
            }
            frame.inputs = from.data(), frame.outputs = to.data(), frame.valid = program.images();
            seconds = program.time_steps(frame, rounds, half->threads);
            give_back(*half, std::move(frame));
        }
        for (std::size_t i = 0; i < seconds.size(); ++i)
            found.push_back({program.steps()[i].report, program.images(), half->threads, seconds[i]});
    }
    return found;
}

std::size_t Session::Runner::arena_bytes(const Part& part) {
    const Halves programs = halves(part, apart(part) > 0 ? 1 : threads_);
    std::size_t bytes = static_cast<std::size_t>(programs.between) * part.block * sizeof(Word);
    for (Compiled* half : {programs.head, programs.tail})
        if (half != nullptr)
            bytes += half->program->arena_bytes() *
                     static_cast<std::size_t>(std::min(half->program->together(), part.block * part.count));
    return bytes;
}

// ---- What callers see -------------------------------------------------------------------------------------------

Session::Session(const Network& network, const Kernels& kernels, const CostModel& costs, int threads)
    : runner_(std::make_unique<Runner>(network, kernels, costs, threads)) {}

Session::~Session() = default;

void Session::run(const void* const* inputs, void* const* outputs, std::int64_t images) {
    runner_->run(inputs, outputs, images);
}

std::vector<Part> Session::divide(std::int64_t images) { return runner_->divide(images); }

std::vector<TimedStep> Session::steps(const Part& part, int rounds, const std::vector<int>& places) {
    return runner_->steps(part, rounds, places);
}

std::size_t Session::arena_bytes(const Part& part) { return runner_->arena_bytes(part); }

}  // namespace secateur
