// .secateur files made by hand, whose checksums are right whatever they say.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "packfile/bytes.hpp"

namespace files {

inline secateur::packfile::Bytes bytes_of(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline std::string little_endian(std::uint64_t value, int count) {
    std::string bytes;
    for (int i = 0; i < count; ++i) bytes.push_back(static_cast<char>(value >> 8 * i));
    return bytes;
}

inline std::string sealed(const std::string& content) {
    return content + little_endian(secateur::packfile::checksum(bytes_of(content)), 4);
}

// A deflate stream of stored blocks.
inline std::string squeezed(std::string_view text) {
    std::string made;
    do {
        const std::size_t length = std::min<std::size_t>(text.size(), 0xFFFF);
        made.push_back(length == text.size() ? 1 : 0);
        made += little_endian(length, 2) + little_endian(length ^ 0xFFFF, 2) + std::string(text.substr(0, length));
        text.remove_prefix(length);
    } while (!text.empty());
    return made;
}

// listed: the header's tensors, as in `"a":{…},"b":{…}}`.
inline std::string with_header(const std::string& listed, const std::string& rest) {
    const std::string start = "{\"__metadata__\":{\"secateur\":\"1.4 ", behind = "\"}," + listed;
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08x",
                  static_cast<unsigned>(secateur::packfile::checksum(bytes_of(start + "00000000" + behind))));
    const std::string text = start + digits + behind;
    return little_endian(text.size(), 8) + text + rest;
}

// sections: names without anything to escape, and bytes with their checksums.
inline std::string file_of(const std::vector<std::pair<std::string, std::string>>& sections) {
    std::string listed, rest;
    for (const auto& [name, bytes] : sections) {
        const std::string begin = std::to_string(rest.size()), end = std::to_string(rest.size() + bytes.size());
        listed += (listed.empty() ? "\"" : ",\"") + name + "\":{\"dtype\":\"U8\",\"shape\":[" +
                  std::to_string(bytes.size()) + "],\"data_offsets\":[" + begin + "," + end + "]}";
        rest += bytes;
    }
    return with_header(listed + "}", rest);
}

inline std::string described(std::string_view text, const std::string& pool) {
    std::vector<std::pair<std::string, std::string>> sections = {{"secateur.graph", sealed(squeezed(text))}};
    if (!pool.empty()) sections.emplace_back("secateur.pool", pool);
    return file_of(sections);
}

}  // namespace files
