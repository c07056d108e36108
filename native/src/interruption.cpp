#include "secateur/interruption.hpp"

#include <time.h>

#include <utility>

namespace secateur {
namespace {

constexpr double kEvery = 0.05;  // seconds
#if defined(CLOCK_MONOTONIC_COARSE)
constexpr clockid_t kClock = CLOCK_MONOTONIC_COARSE;  // a few milliseconds wrong, and cheap
#else
constexpr clockid_t kClock = CLOCK_MONOTONIC;
#endif

thread_local Interruptible* current = nullptr;

double now() {
    timespec time;
    clock_gettime(kClock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

Interruptible::Interruptible(std::function<void()> ask) : ask_(std::move(ask)), next_(now() + kEvery), outer_(current) {
    current = this;
}

Interruptible::~Interruptible() { current = outer_; }

void check_interruption() {
    if (current == nullptr) return;
    const double time = now();
    if (time < current->next_) return;
    current->next_ = time + kEvery;
    current->ask_();
}

}  // namespace secateur
