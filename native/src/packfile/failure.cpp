#include "failure.hpp"

namespace secateur::packfile {

std::string quoted(const std::string& text) {
    constexpr std::size_t kMost = 160;
    constexpr char kDigits[] = "0123456789abcdef";
    std::string shown = "'";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (shown.size() > kMost && (byte & 0xC0) != 0x80) return shown + "…'";  // before a character, not within one
        if (byte < 0x20 || byte == 0x7F || byte == 0xFF) shown += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
        else shown.push_back(c);
    }
    return shown + "'";
}

}  // namespace secateur::packfile
