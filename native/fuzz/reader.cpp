// libFuzzer's target for files: the first byte says how deep an input goes in, as a whole file, as the header's tensors with a
// checksum that fits, as a description with a pool behind a zero byte, or as the bytes of one weight.
//   make fuzz
#include "files.hpp"
#include "opened.hpp"

namespace {

std::string weight_of(std::string_view data) {
    static const char* const kFormats[] = {"float32", "float16", "bfloat16", "int8", "int32", "int64", "bool"};
    static const char* const kShapes[] = {"[8,5]", "[1,40]", "[40]",   "[2,2,2,5]",
                                          "[5,0]", "[]",     "[2000]", "[1099511627776,0]"};
    if (data.size() < 3) return {};
    const std::string shape = kShapes[static_cast<unsigned char>(data[2]) % 8], content(data.substr(3));
    const std::string text =
        R"({"producer":"","inputs":{"x":[1]},"outputs":["c"],"nodes":[{"name":"c","op":"constant",)"
        R"("inputs":[],"weights":{"value":"w"},"shape":)" +
        shape + R"(}],"weights":[{"name":"w","dtype":")" + kFormats[static_cast<unsigned char>(data[1]) % 7] +
        R"(","shape":)" + shape + R"(,"codec":)" + std::to_string(static_cast<unsigned char>(data[0]) % 4) +
        R"(,"bytes":)" + std::to_string(content.size()) + "}]}";
    return files::described(text, files::sealed(content));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view data(reinterpret_cast<const char*>(bytes) + 1, size - 1);
    const std::size_t zero = std::min(data.find('\0'), data.size());
    switch (bytes[0] % 4) {
        case 0: opened::try_out(data); break;
        case 1:
            opened::try_out(files::with_header(std::string(data.substr(0, zero)), std::string(data.substr(zero))));
            break;
        case 2:
            opened::try_out(
                files::described(data.substr(0, zero), std::string(data.substr(std::min(zero + 1, data.size())))));
            break;
        default: opened::try_out(weight_of(data));
    }
    return 0;
}
