// Weights ↔ bytes, on NumPy arrays.
#include "secateur/codec.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>
#include <string>

#include "gil.hpp"

namespace nb = nanobind;

namespace {

using namespace secateur::codec;

template <typename T>
using Array = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = Array<const std::uint8_t>;

template <typename T>
std::span<T> view(const Array<T>& array) {
    return {array.data(), array.size()};
}

nb::bytes as_bytes(const std::vector<std::uint8_t>& bytes) { return nb::bytes(bytes.data(), bytes.size()); }

// Encoding trusts its caller; Python's arrays may be of any size.
void check(Matrix shape, std::size_t count) {
    const bool fits = count > 0 && shape.cols > 0 && count % shape.cols == 0 && count / shape.cols == shape.rows;
    if (!fits) throw std::invalid_argument("the array does not have rows × cols elements, or none");
}

void refuse(std::string_view wrong) {
    if (!wrong.empty()) throw std::invalid_argument(std::string(wrong));
}

// What is written to is never converted: the words of a copy would be lost.
template <typename Word>
void bind_levels(nb::module_& module) {
    module.def(
        "decode_levels",
        [](const Bytes& bytes, const Array<Word>& words, std::size_t rows, std::size_t cols,
           const Array<const Word>& codebook, std::size_t positive, std::size_t negative) {
            const Codebook<Word> book{view(codebook), positive, negative};
            refuse(decode_levels<Word>(view(bytes), {rows, cols}, book, view(words)));
        },
        nb::arg(), nb::arg().noconvert(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
        nb::call_guard<secateur::WithoutGil>());
}

template <typename Word>
void bind_floats(nb::module_& module) {
    module.def("encode_floats", [](const Array<const Word>& words, std::size_t rows, std::size_t cols, int exponent,
                                   int mantissa, std::size_t lag) {
        check({rows, cols}, words.size());
        std::vector<std::uint8_t> bytes;
        {
            secateur::WithoutGil released;
            bytes = encode_floats<Word>(view(words), {rows, cols}, {exponent, mantissa}, lag);
        }
        return as_bytes(bytes);
    });
    module.def(
        "decode_floats",
        [](const Bytes& bytes, const Array<Word>& words, std::size_t rows, std::size_t cols, int exponent,
           int mantissa) { refuse(decode_floats<Word>(view(bytes), {rows, cols}, {exponent, mantissa}, view(words))); },
        nb::arg(), nb::arg().noconvert(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
        nb::call_guard<secateur::WithoutGil>());
}

}  // namespace

void bind_codec(nb::module_& module) {
    bind_floats<std::uint16_t>(module);
    bind_floats<std::uint32_t>(module);
    bind_levels<std::uint8_t>(module);
    bind_levels<std::uint16_t>(module);
    bind_levels<std::uint32_t>(module);
    using Levels = Array<const std::int16_t>;
    module.def("encode_levels", [](const Levels& levels, std::size_t rows, std::size_t cols, std::size_t lag) {
        check({rows, cols}, levels.size());
        std::vector<std::uint8_t> bytes;
        {
            secateur::WithoutGil released;
            bytes = encode_levels(view(levels), {rows, cols}, lag);
        }
        return as_bytes(bytes);
    });
}
