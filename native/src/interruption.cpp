#include "secateur/interruption.hpp"

#include <utility>

#include "platform.hpp"

namespace secateur {
namespace {

constexpr double kEvery = 0.05;  // seconds

thread_local Interruptible* current = nullptr;

}  // namespace

Interruptible::Interruptible(std::function<void()> ask)
    : ask_(std::move(ask)), next_(platform::coarse_seconds() + kEvery), outer_(current) {
    current = this;
}

Interruptible::~Interruptible() { current = outer_; }

void check_interruption() {
    if (current == nullptr) return;
    const double time = platform::coarse_seconds();
    if (time < current->next_) return;
    current->next_ = time + kEvery;
    current->ask_();
}

}  // namespace secateur
