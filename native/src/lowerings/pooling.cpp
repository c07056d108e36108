#include <algorithm>

#include "arranging.hpp"
#include "compiler.hpp"
#include "lowerings/lowering.hpp"
#include "lowerings/pooling.hpp"
#include "operations.hpp"
#include "prediction.hpp"

namespace secateur {
namespace {

std::optional<Kind> read_pool(const Node& node) {
    const bool average = node.op == "avg_pool2d";
    if (!average && (node.op != "max_pool2d" || node.element != Element::kFloat32)) return {};
    const std::vector<std::int64_t> dilation =
        average ? std::vector<std::int64_t>{1, 1} : integers_of(node, "dilation");
    return kind::Pool{integers_of(node, "kernel"),
                      integers_of(node, "stride"),
                      integers_of(node, "padding"),
                      dilation,
                      average,
                      average && integer_of(node, "count_include_pad") != 0};
}

double pool_cycles(const Setting& setting, const Operation& operation) {
    return streaming(setting, operation, setting.images == 1 ? 0.16 : 0.05);
}

void compile_pool(Compiler& compiler, const Operation& operation) {
    const auto& pool = std::get<kind::Pool>(operation.kind);
    const Setting& setting = compiler.setting();
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output);
    const PoolRun run = pool_run(pool, setting.input(operation), setting.output(operation), setting.images);
    Step& step = compiler.push(operation, "loop");
    step.items = setting.input(operation).dims[0];
    step.work = pool_work(run, setting.output(operation));
    step.run = [=, pool = setting.kernels.pool](const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        PoolRun part = run;
        part.source = frame.floats(from + begin * run.source_channel);
        part.target = frame.floats(to + begin * run.target_channel);
        part.channels = static_cast<int>(end - begin);
        pool(part);
    };
}

// A mean over windows: those of an adaptive pooling, or whole axes; of these others than means too.
std::optional<Kind> read_mean(const Node& node) {
    constexpr std::pair<const char*, kind::Reduction> kReductions[] = {
        {"mean", kind::Reduction::kMean},    {"sum", kind::Reduction::kSum},       {"prod", kind::Reduction::kProduct},
        {"amax", kind::Reduction::kLargest}, {"amin", kind::Reduction::kSmallest},
    };
    if (node.op == "adaptive_avg_pool2d") return kind::Mean{};
    for (const auto& [name, reduction] : kReductions)
        if (node.op == name) return kind::Mean{axes_of(node, "axes"), reduction};
    return {};
}

// Takes from both the last axes that are not reduced and lie side by side: so many numbers become what images are.
std::int64_t side_by_side(Storage& source, Storage& target, const std::vector<std::int64_t>& axes, int images) {
    constexpr std::int64_t kMost = 1024;  // that are kept near while all that is reduced goes by
    std::int64_t together = images;
    while (!source.dims.empty() && !target.dims.empty()) {
        const std::int64_t axis = static_cast<std::int64_t>(source.dims.size()) - 1, size = source.dims.back();
        const bool reduced = std::find(axes.begin(), axes.end(), axis) != axes.end();
        if (reduced || source.strides.back() != together || target.strides.back() != together ||
            together * size > kMost)
            break;
        together *= size;
        source.dims.pop_back(), source.strides.pop_back(), target.dims.pop_back(), target.strides.pop_back();
    }
    return together;
}

void compile_mean(Compiler& compiler, const Operation& operation) {
    const auto& [axes, reduction] = std::get<kind::Mean>(operation.kind);
    Storage source = compiler.setting().input(operation), target = compiler.setting().output(operation);
    const std::int64_t together = axes.empty() ? 0 : side_by_side(source, target, axes, compiler.setting().images);
    const std::int64_t from = compiler.place(operation.inputs[0]), to = compiler.place(operation.output),
                       count = elements(target.dims);
    Step& step = compiler.push(operation, "loop");
    step.items = std::clamp<std::int64_t>(count / 16, 1, 64);
    step.work = static_cast<double>(std::max(count, elements(source.dims)));
    if (axes.empty()) {
        step.run = [=, windows = AdaptiveWindows(source, target), images = compiler.setting().images, all = step.items](
                       const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
            average_adaptive(windows, count * begin / all, count * end / all, frame.floats(from), frame.floats(to),
                             images);
        };
        return;
    }
    step.run = [=, how = reduction, windows = axis_windows(source, target, axes), all = step.items](
                   const Frame& frame, std::int64_t begin, std::int64_t end, Word*) {
        reduce_windows(how, windows, count * begin / all, count * end / all, frame.floats(from), frame.floats(to),
                       static_cast<int>(together));
    };
}

// Whole axes are averaged wherever they lie.
void arrange_mean(Arrangement& arrangement, Operation& operation) {
    if (std::get<kind::Mean>(operation.kind).axes.empty()) arrangement.bring_plainly(operation, 0);
}

}  // namespace

double pool_work(const PoolRun& run, const Storage& output) {
    return static_cast<double>(elements(output.dims)) * std::min(run.kernel_y, run.height) *
           std::min(run.kernel_x, run.width);
}

PoolRun pool_run(const kind::Pool& pool, const Storage& in, const Storage& out, int images) {
    const auto narrow = [](std::int64_t value) { return static_cast<int>(value); };
    const auto size = [](const Storage& storage, std::size_t axis) {  // of a whole plane that was averaged: 1
        return axis < storage.dims.size() ? storage.dims[axis] : 1;
    };
    const auto step = [](const Storage& storage, std::size_t axis) {
        return axis < storage.dims.size() ? storage.strides[axis] : 0;
    };
    PoolRun run{};
    run.source_channel = in.strides[0], run.source_row = in.strides[1], run.source_column = in.strides[2];
    run.target_channel = out.strides[0], run.target_row = step(out, 1), run.target_column = step(out, 2);
    run.height = narrow(in.dims[1]), run.width = narrow(in.dims[2]);
    run.out_height = narrow(size(out, 1)), run.out_width = narrow(size(out, 2));
    run.kernel_y = narrow(pool.kernel[0]), run.kernel_x = narrow(pool.kernel[1]);
    run.stride_y = narrow(pool.stride[0]), run.stride_x = narrow(pool.stride[1]);
    run.top = narrow(pool.padding[0]), run.bottom = narrow(pool.padding[1]);
    run.left = narrow(pool.padding[2]), run.right = narrow(pool.padding[3]);
    run.dilation_y = narrow(pool.dilation[0]), run.dilation_x = narrow(pool.dilation[1]);
    run.average = pool.average, run.count_padding = pool.count_padding, run.images = images;
    return run;
}

const Lowering lowerings::pool = {.read = read_pool, .cycles = pool_cycles, .compile = compile_pool};
const Lowering lowerings::mean = {
    .read = read_mean, .cycles = streaming, .compile = compile_mean, .arrange = arrange_mean};

}  // namespace secateur
