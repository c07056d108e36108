// What is wrong with a file or a graph, in one line.
#pragma once

#include <stdexcept>
#include <string>

namespace secateur::packfile {

// A file that is damaged, hostile or of another version.
struct FormatError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A graph that makes no sense, or asks for too much.
struct GraphError : FormatError {
    using FormatError::FormatError;
};

// A file that cannot be opened or read.
struct FileError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What Secateur in Python runs and this library does not.
struct Unsupported : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A text of a file, for people: in one line, control characters escaped, of a long one the beginning.
std::string quoted(const std::string& text);

}  // namespace secateur::packfile
