// The C interface: what callers hand over is checked and translated, and no exception leaves.
#include "secateur.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "packfile/engine.hpp"
#include "packfile/failure.hpp"
#include "packfile/reading.hpp"
#include "secateur/cpu.hpp"

namespace {

using namespace secateur::packfile;

constexpr std::int64_t kMostThreads = 1024, kMostNumbers = std::int64_t{1} << 40;
constexpr std::int64_t kMostWhole = 1 << 24;  // up to which float32 has every whole number

struct ArgumentError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::string& error_text() {
    thread_local std::string text;
    return text;
}

secateur_status failed(secateur_status status, const char* what) noexcept {
    try {
        error_text() = what;
    } catch (...) {
        error_text().clear();
    }
    return status;
}

// What work throws as a status, its text kept for secateur_error().
template <typename Work>
secateur_status guarded(const Work& work) noexcept {
    try {
        work();
        return SECATEUR_OK;
    } catch (const ArgumentError& error) {
        return failed(SECATEUR_ERROR_ARGUMENT, error.what());
    } catch (const FileError& error) {
        return failed(SECATEUR_ERROR_FILE, error.what());
    } catch (const FormatError& error) {
        return failed(SECATEUR_ERROR_FORMAT, error.what());
    } catch (const Unsupported& error) {
        return failed(SECATEUR_ERROR_UNSUPPORTED, error.what());
    } catch (const std::bad_alloc&) {
        return failed(SECATEUR_ERROR_MEMORY,
                      "there is not enough memory: run fewer images at once, or a smaller network");
    } catch (const std::length_error&) {
        return failed(SECATEUR_ERROR_MEMORY,
                      "there is not enough memory: run fewer images at once, or a smaller network");
    } catch (const std::exception& error) {
        return failed(SECATEUR_ERROR_RUN, error.what());
    } catch (...) {
        return failed(SECATEUR_ERROR_RUN, "the runtime stopped");
    }
}

void demand(bool holds, const std::string& expected) {
    if (!holds) throw ArgumentError(expected);
}

struct Options {
    int threads;
    bool calibrate;
    const secateur::Kernels* kernels;
    Limits limits;
};

const secateur::Kernels* kernels_named(const char* name) {
    const auto runnable = secateur::runnable_kernels();
    if (name == nullptr) return runnable[0];
    std::string known;
    for (const auto* each : runnable) {
        if (secateur::name_of(*each) == name) return each;
        known += (known.empty() ? "" : ", ") + std::string(secateur::name_of(*each));
    }
    throw ArgumentError("kernel " + std::string(name) + ": this processor runs " + known);
}

Options options_of(const secateur_options* given) {
    const secateur_options held = given == nullptr ? secateur_defaults() : *given;
    demand(held.threads >= 1 && held.threads <= kMostThreads, "threads: expected a whole number from 1 to 1024");
    const Limits limits{held.weight_bytes, held.nodes,         held.inputs,          held.outputs, held.links,
                        held.names,        held.multiply_adds, held.window_elements, held.memory,  held.growth};
    for (std::int64_t each : {limits.weight_bytes, limits.nodes, limits.inputs, limits.outputs, limits.links,
                              limits.names, limits.multiply_adds, limits.window_elements, limits.memory, limits.growth})
        demand(each >= 0, "limits: expected whole numbers from 0 on");
    return {held.threads, held.calibrate != 0, kernels_named(held.kernel), limits};
}

secateur::CostModel costs_of(const Options& options) {
    if (!options.calibrate) return secateur::built_in_costs(*options.kernels);
    static std::mutex mutex;
    static std::map<const secateur::Kernels*, secateur::CostModel> measured;
    const std::lock_guard lock(mutex);
    const auto found = measured.find(options.kernels);
    if (found != measured.end()) return found->second;
    return measured[options.kernels] = secateur::measure_costs(*options.kernels);
}

// ---- Values -----------------------------------------------------------------------------------------------------

std::optional<secateur_element> element_of(const std::string& format) {
    if (format == "float32") return SECATEUR_FLOAT32;
    if (format == "int64") return SECATEUR_INT64;
    if (format == "int32") return SECATEUR_INT32;
    if (format == "bool") return SECATEUR_BOOL;
    return std::nullopt;
}

struct Value {
    std::string name;
    std::vector<std::int64_t> shape;
    secateur_value seen;
};

// Values are kept where they are: what callers see points into them.
std::unique_ptr<Value> value_of(const std::string& name, const Shape& shape, const Element& held) {
    const auto element = element_of(held.format);
    if (!element)
        throw Unsupported("value " + quoted(name) + " is " + held.format +
                          ": this library takes and gives float32, int64, int32 and bool only; run the file in Python");
    auto value = std::make_unique<Value>(Value{name, {}, {}});
    for (const Size& each : shape) value->shape.push_back(each.is_whole() ? each.whole() : -1);
    const auto count = is_whole(shape) ? static_cast<std::size_t>(product_of(shape).whole()) : 0;
    value->seen = {value->name.c_str(), *element, value->shape.size(), value->shape.data(), count};
    return value;
}

template <typename Number>
std::vector<float> wholes_as_floats(const Value& value, const void* given, std::size_t count) {
    const auto* numbers = static_cast<const Number*>(given);
    std::vector<float> made(count);
    for (std::size_t i = 0; i < count; ++i) {
        demand(
            numbers[i] >= -kMostWhole && numbers[i] <= kMostWhole,
            "input " + quoted(value.name) + ": expected whole numbers from -16777216 to 16777216, which float32 has");
        made[i] = static_cast<float>(numbers[i]);
    }
    return made;
}

std::vector<float> as_floats(const Value& value, const void* given, std::size_t count) {
    if (value.seen.element == SECATEUR_INT64) return wholes_as_floats<std::int64_t>(value, given, count);
    if (value.seen.element == SECATEUR_INT32) return wholes_as_floats<std::int32_t>(value, given, count);
    const auto* truths = static_cast<const std::uint8_t*>(given);
    std::vector<float> made(count);
    std::transform(truths, truths + count, made.begin(), [](std::uint8_t each) { return each != 0 ? 1.0f : 0.0f; });
    return made;
}

template <typename Number>
void put_wholes(const Value& value, const std::vector<float>& made, void* into) {
    auto* numbers = static_cast<Number*>(into);
    for (std::size_t i = 0; i < made.size(); ++i) {
        if (!(std::abs(made[i]) <= static_cast<float>(kMostWhole)))
            throw std::runtime_error(
                "output " + quoted(value.name) +
                ": whole numbers came out beyond 16777216, up to which the runtime has them exactly");
        numbers[i] = static_cast<Number>(made[i]);
    }
}

void put(const Value& value, const std::vector<float>& made, void* into) {
    if (value.seen.element == SECATEUR_INT64) return put_wholes<std::int64_t>(value, made, into);
    if (value.seen.element == SECATEUR_INT32) return put_wholes<std::int32_t>(value, made, into);
    std::transform(made.begin(), made.end(), static_cast<std::uint8_t*>(into),
                   [](float each) { return each != 0 ? 1 : 0; });
}

void check_sizes(const Graph& graph) {
    const auto check = [](const std::string& name, const Shape& shape) {
        std::int64_t numbers = 1;
        for (const Size& each : shape)
            if (const std::int64_t size = each.whole(); size > kMostNumbers / numbers)
                throw GraphError("value " + quoted(name) + " of shape " + text_of(shape) +
                                 ": more numbers than an image may have");
            else numbers *= std::max<std::int64_t>(size, 1);
    };
    for (const Input& each : graph.inputs) check(each.name, each.shape);
    for (const Node& each : graph.nodes) check(each.name, each.shape);
}

}  // namespace

struct secateur_model {
   public:
    secateur_model(std::shared_ptr<const File> file, const Options& options)
        : secateur_model(file, options, file->graph, file->checked) {}

    std::unique_ptr<secateur_model> at(const std::int64_t* lengths, std::size_t count) const {
        demand(count == lengths_.size() && (lengths != nullptr || count == 0),
               std::to_string(count) + " lengths: expected " + std::to_string(lengths_.size()));
        Lengths named;
        for (std::size_t i = 0; i < count; ++i) named[lengths_[i]] = lengths[i];
        try {
            const Graph bound = graph_.at(named);
            check_sizes(bound);
            const Checked checked = check_graph(bound);
            check_costs(bound, checked, options_.limits);
            check_numbers(bound, checked, file_->weights);
            return std::unique_ptr<secateur_model>(new secateur_model(file_, options_, bound, checked));
        } catch (const GraphError& error) {
            throw ArgumentError(error.what());
        }
    }

    void run(const void* const* inputs, void* const* outputs, std::int64_t images) const {
        demand(lengths_.empty(),
               "the network has lengths that are free: expected one that they were bound to (secateur_bind)");
        demand(images >= 0 && images <= kMostNumbers, "images: expected a whole number from 0 on");
        demand(!images_ || *images_ == images,
               std::to_string(images) + " images: expected " + std::to_string(images_.value_or(0)) +
                   ", as the network was packed for, or bound to, batches of that size only");
        check_pointers(inputs, inputs_, "inputs", images), check_pointers(outputs, outputs_, "outputs", images);
        const auto count = static_cast<std::size_t>(images);
        std::vector<std::vector<float>> given, made;
        std::vector<const void*> from;
        std::vector<void*> to;
        given.reserve(inputs_.size()), made.reserve(outputs_.size());
        for (std::size_t i = 0; i < inputs_.size(); ++i) {
            const Value& value = *inputs_[i];
            if (value.seen.element == SECATEUR_FLOAT32) from.push_back(inputs[i]);
            else from.push_back(given.emplace_back(as_floats(value, inputs[i], value.seen.count * count)).data());
        }
        for (std::size_t i = 0; i < outputs_.size(); ++i) {
            const Value& value = *outputs_[i];
            if (value.seen.element == SECATEUR_FLOAT32) to.push_back(outputs[i]);
            else to.push_back(made.emplace_back(value.seen.count * count).data());
        }
        engine_->run(from.data(), to.data(), images);
        std::size_t next = 0;
        for (std::size_t i = 0; i < outputs_.size(); ++i)
            if (outputs_[i]->seen.element != SECATEUR_FLOAT32) put(*outputs_[i], made[next++], outputs[i]);
    }

    // As Python's Normalisation: a scale and a shift for each channel.
    void normalise(const std::uint8_t* pixels, float* normalised, std::int64_t images) const {
        const Metadata& metadata = file_->metadata;
        const bool planes = inputs_.size() == 1 && inputs_[0]->shape.size() == 3 && lengths_.empty();
        if (!planes || metadata.mean.empty() || metadata.mean.size() != static_cast<std::size_t>(inputs_[0]->shape[0]))
            throw Unsupported("how images would be normalised is not known: give the network what it takes");
        demand(images >= 0 && pixels != nullptr && normalised != nullptr, "pixels and normalised: expected arrays");
        const std::size_t channels = metadata.mean.size(), plane = inputs_[0]->seen.count / channels;
        for (std::size_t at = 0; at < channels * static_cast<std::size_t>(images); ++at) {
            const double deviation = metadata.std[at % channels];
            const auto scale = static_cast<float>(1 / (255 * deviation)),
                       shift = static_cast<float>(-metadata.mean[at % channels] / deviation);
            for (std::size_t i = at * plane; i < (at + 1) * plane; ++i) {
                const float scaled = static_cast<float>(pixels[i]) * scale;
                normalised[i] = scaled + shift;
            }
        }
    }

    const std::vector<std::unique_ptr<Value>>& inputs() const { return inputs_; }
    const std::vector<std::unique_ptr<Value>>& outputs() const { return outputs_; }
    const std::vector<std::string>& lengths() const { return lengths_; }
    const std::vector<std::string>& classes() const { return file_->metadata.classes; }
    std::int64_t images() const { return images_.value_or(0); }
    int threads() const { return options_.threads; }

   private:
    secateur_model(std::shared_ptr<const File> file, const Options& options, const Graph& graph, const Checked& checked)
        : file_(std::move(file)), options_(options), graph_(graph), images_(graph.images()) {
        const std::set<std::string> lengths = graph.lengths();
        lengths_.assign(lengths.begin(), lengths.end());
        for (const Input& each : graph.inputs)
            inputs_.push_back(value_of(each.name, each.shape, checked.elements.at(each.name)));
        const std::vector<std::string> names = graph.output_names();
        for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
            const std::string& value = graph.outputs[i];
            outputs_.push_back(value_of(names[i], checked.shapes.at(value), checked.elements.at(value)));
        }
        if (!lengths_.empty()) return;
        costs_ = costs_of(options);
        engine_ = std::make_unique<Engine>(graph_, checked, file_->weights,
                                           Setting{*options.kernels, costs_, options.threads});
    }

    static void check_pointers(const void* const* given, const std::vector<std::unique_ptr<Value>>& values,
                               const char* what, std::int64_t images) {
        demand(given != nullptr, std::string(what) + ": expected an array of pointers");
        for (std::size_t i = 0; i < values.size(); ++i)
            demand(given[i] != nullptr || images == 0 || values[i]->seen.count == 0,
                   std::string(what) + "[" + std::to_string(i) + "]: expected an array for " + quoted(values[i]->name));
    }

    std::shared_ptr<const File> file_;
    Options options_;
    Graph graph_;
    std::optional<std::int64_t> images_;
    std::vector<std::string> lengths_;
    std::vector<std::unique_ptr<Value>> inputs_, outputs_;
    secateur::CostModel costs_;
    std::unique_ptr<Engine> engine_;
};

namespace {

secateur_status open_source(const std::string& named, const secateur_options* options, secateur_model** model,
                            const auto& source) {
    if (model != nullptr) *model = nullptr;
    return guarded([&] {
        demand(model != nullptr, "model: expected where to put it");
        const Options held = options_of(options);
        try {
            *model = std::make_unique<secateur_model>(std::make_shared<const File>(read(source(), held.limits)), held)
                         .release();
        } catch (const FileError& error) {
            throw FileError(named + ": cannot be read: " + error.what());
        } catch (const FormatError& error) {
            throw FormatError(named + ": " + error.what());
        } catch (const Unsupported& error) {
            throw Unsupported(named + ": " + error.what());
        }
    });
}

const secateur_value* value_at(const std::vector<std::unique_ptr<Value>>& values, std::size_t index) {
    return index < values.size() ? &values[index]->seen : nullptr;
}

int find(const std::vector<std::unique_ptr<Value>>& values, const char* name) {
    for (std::size_t i = 0; name != nullptr && i < values.size(); ++i)
        if (values[i]->name == name) return static_cast<int>(i);
    return -1;
}

const char* text_at(const std::vector<std::string>& texts, std::size_t index) {
    return index < texts.size() ? texts[index].c_str() : nullptr;
}

}  // namespace

const char* secateur_version(void) { return SECATEUR_VERSION; }

const char* secateur_error(void) { return error_text().c_str(); }

const char* secateur_kernel(size_t index) {
    static const auto runnable = secateur::runnable_kernels();
    return index < runnable.size() ? secateur::name_of(*runnable[index]).data() : nullptr;
}

secateur_options secateur_defaults(void) {
    const Limits limits;
    return {1,
            0,
            nullptr,
            limits.weight_bytes,
            limits.nodes,
            limits.inputs,
            limits.outputs,
            limits.links,
            limits.names,
            limits.multiply_adds,
            limits.window_elements,
            limits.memory,
            limits.growth};
}

secateur_status secateur_open(const char* path, const secateur_options* options, secateur_model** model) {
    return open_source(path == nullptr ? "" : path, options, model, [&] {
        demand(path != nullptr, "path: expected one");
        return Source::of_file(path);
    });
}

secateur_status secateur_open_memory(const void* bytes, size_t size, const secateur_options* options,
                                     secateur_model** model) {
    return open_source("memory", options, model, [&] {
        demand(bytes != nullptr || size == 0, "bytes: expected some");
        return Source::of_memory({static_cast<const std::uint8_t*>(bytes), size});
    });
}

void secateur_close(secateur_model* model) { delete model; }

int secateur_threads(const secateur_model* model) { return model->threads(); }
size_t secateur_input_count(const secateur_model* model) { return model->inputs().size(); }
size_t secateur_output_count(const secateur_model* model) { return model->outputs().size(); }
const secateur_value* secateur_input(const secateur_model* model, size_t index) {
    return value_at(model->inputs(), index);
}
const secateur_value* secateur_output(const secateur_model* model, size_t index) {
    return value_at(model->outputs(), index);
}
int secateur_find_input(const secateur_model* model, const char* name) { return find(model->inputs(), name); }
int secateur_find_output(const secateur_model* model, const char* name) { return find(model->outputs(), name); }
int64_t secateur_images(const secateur_model* model) { return model->images(); }
const char* secateur_class(const secateur_model* model, size_t index) { return text_at(model->classes(), index); }
const char* secateur_length(const secateur_model* model, size_t index) { return text_at(model->lengths(), index); }

secateur_status secateur_bind(const secateur_model* model, const int64_t* lengths, size_t count,
                              secateur_model** bound) {
    if (bound != nullptr) *bound = nullptr;
    return guarded([&] {
        demand(model != nullptr && bound != nullptr, "model and bound: expected both");
        *bound = model->at(lengths, count).release();
    });
}

secateur_status secateur_run(const secateur_model* model, const void* const* inputs, void* const* outputs,
                             int64_t images) {
    return guarded([&] {
        demand(model != nullptr, "model: expected one");
        model->run(inputs, outputs, images);
    });
}

secateur_status secateur_normalise(const secateur_model* model, const uint8_t* pixels, float* normalised,
                                   int64_t images) {
    return guarded([&] {
        demand(model != nullptr, "model: expected one");
        model->normalise(pixels, normalised, images);
    });
}
