// An end to long work, asked for by whoever called.
#pragma once

#include <functional>

namespace secateur {

// While it lives, this thread's work asks `ask`, now and then, whether to go on; what that throws ends the work.
class Interruptible {
   public:
    explicit Interruptible(std::function<void()> ask);
    ~Interruptible();
    Interruptible(const Interruptible&) = delete;
    Interruptible& operator=(const Interruptible&) = delete;

   private:
    friend void check_interruption();

    const std::function<void()> ask_;
    double next_;
    Interruptible* const outer_;
};

// Asks, if this thread has whom to ask and it is time to: a few nanoseconds otherwise. May throw.
void check_interruption();

}  // namespace secateur
