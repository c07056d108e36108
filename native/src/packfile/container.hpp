// The outermost layer of a .secateur file: a safetensors file of named byte strings, every one with a checksum.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bytes.hpp"

namespace secateur::packfile {

// Where a byte string lies: it starts at `start`, and a checksum follows its `size` bytes.
struct Section {
    std::uint64_t start = 0, size = 0;
};

class Container {
   public:
    // Throws FormatError for a header that is damaged, or of another version.
    explicit Container(Source source);

    std::uint64_t size() const { return source_.size(); }
    const std::map<std::string, Section>& sections() const { return sections_; }
    // Without the checksum. Throws FormatError where the bytes are damaged.
    std::vector<std::uint8_t> read(const Section& section) const;

   private:
    Source source_;
    std::map<std::string, Section> sections_;
};

}  // namespace secateur::packfile
