// Bytes of a file: where they come from, their checksum, and what was deflated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace secateur::packfile {

using Bytes = std::span<const std::uint8_t>;

inline std::string_view as_text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// A file, or memory that the caller keeps.
class Source {
   public:
    // path: in UTF-8. Throws FileError for what is no regular file.
    static Source of_file(const std::string& path);
    static Source of_memory(Bytes bytes);

    std::uint64_t size() const { return size_; }
    // Throws FormatError where the source ends before.
    std::vector<std::uint8_t> read(std::uint64_t start, std::uint64_t size) const;

   private:
    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };

    std::unique_ptr<std::FILE, Close> file_;
    Bytes memory_;
    std::uint64_t size_ = 0;
};

// CRC-32 of zlib and PNG.
std::uint32_t checksum(Bytes bytes);

// A raw deflate stream (RFC 1951) with a preset dictionary, which is all of `bytes`. Throws FormatError for what is none,
// and where more than `most` bytes would come out.
std::string inflate(Bytes bytes, std::string_view dictionary, std::size_t most);

}  // namespace secateur::packfile
