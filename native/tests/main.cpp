#include "check.hpp"

int main(int count, char** arguments) {
    const std::string_view wanted = count > 1 ? arguments[1] : "";
    int ran = 0;
    for (const auto& each : check::cases()) {
        if (each.name.find(wanted) == std::string_view::npos) continue;
        std::printf("%.*s\n", static_cast<int>(each.name.size()), each.name.data());
        each.body();
        ++ran;
    }
    std::printf("%d cases, %d failures\n", ran, check::failures());
    return check::failures() > 0 || ran == 0;
}
