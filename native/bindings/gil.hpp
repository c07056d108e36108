// Python's lock, given away while native code works.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>

#include "platform.hpp"
#include "secateur/interruption.hpp"

namespace secateur {

struct Interrupted {};  // by a Python exception, which is set

// Without the lock while it lives. Where Python ends meanwhile, taking the lock back ends the thread, which Python before
// 3.14 does by unwinding frames that are not its own: such a thread waits for the process's end instead, as 3.14 has it.
class WithoutGil {
   public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() { take_back(); }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

    // Lets Python see to its signals. Throws Interrupted where a handler raised.
    void look() {
        take_back();
        const bool raised = PyErr_CheckSignals() != 0;
        state_ = PyEval_SaveThread();
        if (raised) throw Interrupted{};
    }

   private:
    void take_back() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            platform::wait_for_end();
        }
    }

    PyThreadState* state_;
};

// Python handles signals on the main thread only, which is another one after a fork.
inline bool on_main_thread() {
    static unsigned long main =
        nanobind::cast<unsigned long>(nanobind::module_::import_("threading").attr("main_thread")().attr("ident"));
    static const bool registered =
        (platform::at_fork(nullptr, nullptr, [] { main = PyThread_get_thread_ident(); }), true);
    (void)registered;
    return PyThread_get_thread_ident() == main;
}

// Calls work without the lock; on the main thread, signals end it as they end Python code.
template <typename Work>
void without_gil(const Work& work) {
    const bool main = on_main_thread();
    bool interrupted = false;
    {
        WithoutGil released;
        std::optional<Interruptible> interruptible;
        if (main) interruptible.emplace([&released] { released.look(); });
        try {
            work();
        } catch (const Interrupted&) {
            interrupted = true;
        }
    }
    if (interrupted) throw nanobind::python_error();
}

}  // namespace secateur
