// Threads that wait for work, shared by all sessions of the process.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

namespace secateur {

// A mutex that fork() waits for, so that the child finds it free and what it guards whole. Nobody may hold two.
class ForkSafeMutex {
   public:
    ForkSafeMutex();
    ~ForkSafeMutex();
    ForkSafeMutex(const ForkSafeMutex&) = delete;
    ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;
    void lock() { mutex_.lock(); }
    void unlock() { mutex_.unlock(); }

   private:
    std::mutex mutex_;
};

// Calls work(0) on the calling thread and, as far as other threads are free and wake in time, work(1) … work(threads − 1)
// on them. Every call takes of the work, piece by piece, what is left: the first may find itself alone with all of it,
// and whoever comes too late finds nothing and is not waited for. Returns when every call that began is done; throws what
// one of them threw.
void run_together(int threads, const std::function<void(int thread)>& work);

// Lets time pass, on the processor, for who has looked so many times whether others are done.
void relax(int spins);

}  // namespace secateur
