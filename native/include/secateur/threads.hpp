// Threads that wait for work, shared by all sessions of the process.
#pragma once

#include <atomic>
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

// Calls work(0) … work(threads − 1) at once, the first on the calling thread, and returns when all are done. Where the
// threads are busy with another caller's work, they are not waited for: all calls are then made here, one by one, which
// `together` (given to every call) says. Throws what one of the calls threw, when all are done.
void run_together(int threads, const std::function<void(int thread, bool together)>& work);

// Where several threads wait for one another, again and again.
class Barrier {
   public:
    explicit Barrier(int threads) : threads_(threads) {}
    void wait();

   private:
    const int threads_;
    std::atomic<int> arrived_{0};
    std::atomic<unsigned> round_{0};
};

}  // namespace secateur
