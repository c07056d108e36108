// The extension module secateur._native: what Python hands over is translated here, and nothing else is done here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <tuple>

#include "gil.hpp"
#include "secateur/cpu.hpp"
#include "secateur/session.hpp"
#include "secateur/watch.hpp"

namespace nb = nanobind;

void bind_codec(nb::module_& module);

namespace {

using Input = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Tensor = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

const secateur::Kernels& kernels_named(const std::string& name) {
    for (const auto* each : secateur::runnable_kernels())
        if (name == secateur::name_of(*each)) return *each;
    throw std::invalid_argument("no kernel named " + name);
}

template <typename Held>
secateur::Shape shape_of(const Held& array) {
    secateur::Shape shape;
    for (std::size_t i = 0; i < array.ndim(); ++i) shape.push_back(static_cast<std::int64_t>(array.shape(i)));
    return shape;
}

secateur::Array array_of(const Tensor& tensor) {
    secateur::Array array{nullptr, shape_of(tensor)};
    if (tensor.dtype() == nb::dtype<float>()) array.data = static_cast<const float*>(tensor.data());
    else if (tensor.dtype() == nb::dtype<std::int8_t>()) array.bytes = static_cast<const std::int8_t*>(tensor.data());
    else if (tensor.dtype() == nb::dtype<std::int32_t>())
        array.integers = static_cast<const std::int32_t*>(tensor.data());
    else throw std::invalid_argument("a weight of another number format than float32, int8 and int32");
    return array;
}

secateur::Element element_named(const std::string& name) {
    if (name == "float32") return secateur::Element::kFloat32;
    if (name == "uint8") return secateur::Element::kUint8;
    throw std::invalid_argument("the runtime has no values of " + name);
}

void take_attribute(secateur::Node& node, const std::string& name, nb::handle value) {
    if (nb::isinstance<nb::str>(value)) node.texts[name] = nb::cast<std::string>(value);
    else if (nb::isinstance<nb::tuple>(value)) node.integers[name] = nb::cast<std::vector<std::int64_t>>(value);
    else {
        node.numbers[name] = nb::cast<double>(nb::float_(value));
        if (!nb::isinstance<nb::float_>(value)) node.integers[name] = {nb::cast<std::int64_t>(nb::int_(value))};
    }
}

// (name, op, inputs, {role: array}, {attribute: value}, shape, element)
secateur::Node make_node(nb::tuple from) {
    secateur::Node node;
    node.name = nb::cast<std::string>(from[0]), node.op = nb::cast<std::string>(from[1]);
    node.inputs = nb::cast<std::vector<int>>(from[2]);
    for (auto [role, array] : nb::cast<nb::dict>(from[3]))
        node.weights[nb::cast<std::string>(role)] = array_of(nb::cast<Tensor>(array));
    for (auto [name, value] : nb::cast<nb::dict>(from[4])) take_attribute(node, nb::cast<std::string>(name), value);
    node.shape = nb::cast<secateur::Shape>(from[5]);
    node.element = element_named(nb::cast<std::string>(from[6]));
    return node;
}

// Built in where none are given.
secateur::CostModel costs_of(const std::vector<double>& values, const secateur::Kernels& kernels) {
    return values.empty() ? secateur::built_in_costs(kernels) : secateur::CostModel::of(values);
}

class Session {
   public:
    // nodes is kept: its arrays are what the programs are made from.
    Session(const std::vector<secateur::Shape>& inputs, nb::list nodes, const std::vector<int>& outputs,
            const std::string& kernel, int threads, const std::vector<double>& costs)
        : nodes_(nodes), session_(make_network(inputs, nodes, outputs), kernels_named(kernel),
                                  costs_of(costs, kernels_named(kernel)), threads) {}

    void run(const Input& input, const Output& output) {
        const std::int64_t images = static_cast<std::int64_t>(input.shape(0));
        const void* from = input.data();
        void* to = output.data();
        secateur::without_gil([&] { session_.run(&from, &to, images); });
    }

    void run_many(const std::vector<Input>& inputs, const std::vector<Output>& outputs) {
        std::vector<const void*> from;
        std::vector<void*> to;
        for (const Input& each : inputs) from.push_back(each.data());
        for (const Output& each : outputs) to.push_back(each.data());
        const std::int64_t images = static_cast<std::int64_t>(inputs[0].shape(0));
        secateur::without_gil([&] { session_.run(from.data(), to.data(), images); });
    }

    std::vector<std::tuple<int, int, std::int64_t>> divide(std::int64_t images) {
        std::vector<std::tuple<int, int, std::int64_t>> parts;
        const secateur::WithoutGil release;
        for (const auto& part : session_.divide(images)) parts.emplace_back(part.block, part.cut, part.count);
        return parts;
    }

    nb::list steps(int block, int cut, int rounds, const std::vector<int>& places) {
        std::vector<secateur::TimedStep> steps;
        secateur::without_gil([&] { steps = session_.steps({block, cut, 1}, rounds, places); });
        nb::list found;
        for (const auto& [step, images, threads, seconds] : steps) {
            nb::dict line;
            line["name"] = step.name, line["operations"] = step.operations, line["kernel"] = step.kernel,
            line["layer"] = step.layer;
            line["shape"] = nb::tuple(nb::cast(step.shape)), line["images"] = images, line["threads"] = threads;
            line["density"] = step.density, line["multiply_adds"] = step.multiply_adds;
            line["nonzero_multiply_adds"] = step.nonzero_multiply_adds, line["bytes"] = step.bytes;
            line["predicted_cycles"] = step.predicted_cycles;
            line["seconds"] = seconds >= 0 ? nb::object(nb::float_(seconds)) : nb::none();
            found.append(line);
        }
        return found;
    }

    std::size_t arena_bytes(int block, int cut) {
        const secateur::WithoutGil release;
        return session_.arena_bytes({block, cut, 1});
    }

   private:
    static secateur::Network make_network(const std::vector<secateur::Shape>& inputs, nb::list nodes,
                                          const std::vector<int>& outputs) {
        secateur::Network network{inputs, {}, outputs};
        for (nb::handle node : nodes) network.nodes.push_back(make_node(nb::cast<nb::tuple>(node)));
        return network;
    }

    nb::list nodes_;
    secateur::Session session_;
};

using Places = std::vector<std::tuple<std::uintptr_t, std::size_t>>;  // addresses and bytes

std::vector<secateur::Stretch> stretches_of(const Places& given) {
    std::vector<secateur::Stretch> stretches;
    for (const auto& [address, bytes] : given)
        stretches.push_back({reinterpret_cast<const std::byte*>(address), bytes});
    return stretches;
}

}  // namespace

NB_MODULE(_native, module) {
    nb::set_leak_warnings(false);  // a daemon thread may hold a Session while Python ends
    module.def("kernels", [] {
        std::vector<std::string> names;
        for (const auto* each : secateur::runnable_kernels()) names.emplace_back(secateur::name_of(*each));
        return names;
    });
    module.def(
        "peak_rate",
        [](const std::string& kernel, bool bytes) {
            const auto& kernels = kernels_named(kernel);
            const secateur::WithoutGil release;
            return secateur::peak_rate(kernels, bytes);
        },
        nb::arg(), nb::arg("bytes") = false);
    module.def("cost_count", [] { return secateur::CostModel{}.values().size(); });
    module.def("measure_costs", [](const std::string& kernel) {
        const auto& kernels = kernels_named(kernel);
        const secateur::WithoutGil release;
        return secateur::measure_costs(kernels).values();
    });
    nb::class_<Session>(module, "Session")
        .def(nb::init<const std::vector<secateur::Shape>&, nb::list, const std::vector<int>&, const std::string&, int,
                      const std::vector<double>&>(),
             nb::arg("inputs"), nb::arg("nodes"), nb::arg("outputs"), nb::arg("kernel"), nb::arg("threads"),
             nb::arg("costs"))
        .def("run", &Session::run)
        .def("run_many", &Session::run_many)
        .def("divide", &Session::divide)
        .def("steps", &Session::steps, nb::arg("block"), nb::arg("cut"), nb::arg("rounds"),
             nb::arg("places") = std::vector<int>{})
        .def("arena_bytes", &Session::arena_bytes);
    nb::class_<secateur::Watch>(module, "Watch")
        .def(
            "__init__",
            [](secateur::Watch* self, const Places& places, const Places& unmarked) {
                auto stretches = stretches_of(places);
                const auto others = stretches_of(unmarked);
                const nb::gil_scoped_release release;
                new (self) secateur::Watch(std::move(stretches), others);
            },
            nb::arg("places"), nb::arg("unmarked"))
        .def("changed", &secateur::Watch::changed, nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("marked", &secateur::Watch::marked);
    bind_codec(module);
}
