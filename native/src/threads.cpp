#include "secateur/threads.hpp"

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <pthread.h>

namespace secateur {
namespace {

constexpr int kSpins = 2000;

void relax(int spins) {
    if (spins > kSpins) {
        std::this_thread::yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Crew {
   public:
    ~Crew() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        ready_.notify_all();
        for (std::thread& each : threads_) each.join();
    }

    bool try_run(int threads, const std::function<void(int, bool)>& work) {
        const std::unique_lock owner(owner_, std::try_to_lock);
        if (!owner) return false;
        {
            const std::lock_guard lock(mutex_);
            while (static_cast<int>(threads_.size()) < threads - 1) {
                const int index = static_cast<int>(threads_.size()) + 1;
                threads_.emplace_back([this, index, seen = round_.load()] { serve(index, seen); });
            }
            work_ = &work, wanted_ = threads;
            left_.store(threads - 1, std::memory_order_relaxed);
            round_.fetch_add(1, std::memory_order_release);
        }
        ready_.notify_all();
        attempt(work, 0);
        for (int spins = 0; left_.load(std::memory_order_acquire) > 0; ++spins) relax(spins);
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
        return true;
    }

   private:
    void attempt(const std::function<void(int, bool)>& work, int index) {
        try {
            work(index, true);
        } catch (...) {
            const std::lock_guard lock(mutex_);
            failure_ = std::current_exception();
        }
    }

    void serve(int index, unsigned seen) {
        for (;;) {
            for (int spins = 0; spins < kSpins && round_.load(std::memory_order_acquire) == seen; ++spins) relax(0);
            const std::function<void(int, bool)>* work;
            int wanted;
            {
                std::unique_lock lock(mutex_);
                ready_.wait(lock, [&] { return stop_ || round_.load() != seen; });
                if (stop_) return;
                seen = round_.load(), work = work_, wanted = wanted_;
            }
            if (index >= wanted) continue;
            attempt(*work, index);
            left_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::mutex owner_, mutex_;
    std::condition_variable ready_;
    std::vector<std::thread> threads_;
    const std::function<void(int, bool)>* work_ = nullptr;
    int wanted_ = 0;
    bool stop_ = false;
    std::exception_ptr failure_;
    std::atomic<unsigned> round_{0};
    std::atomic<int> left_{0};
};

// Never destroyed: sessions may outlive whatever is torn down at exit.
struct Guarded {
    std::mutex mutex;
    std::set<ForkSafeMutex*> all;

    void lock() {
        mutex.lock();
        for (ForkSafeMutex* each : all) each->lock();
    }

    void unlock() {
        for (ForkSafeMutex* each : all) each->unlock();
        mutex.unlock();
    }
};

Guarded& guarded() {
    static Guarded& found = *new Guarded;
    static const int registered = pthread_atfork([] { found.lock(); }, [] { found.unlock(); }, [] { found.unlock(); });
    (void)registered;
    return found;
}

// A child of fork() has none of its parent's threads; it leaves the parent's crew alone and makes its own.
std::shared_ptr<Crew>* crew_holder = nullptr;

std::shared_ptr<Crew> crew() {
    static ForkSafeMutex& mutex = *new ForkSafeMutex;
    static const int registered = pthread_atfork(nullptr, nullptr, [] { crew_holder = nullptr; });
    (void)registered;
    const std::lock_guard lock(mutex);
    if (crew_holder == nullptr) crew_holder = new std::shared_ptr<Crew>(std::make_shared<Crew>());
    return *crew_holder;
}

}  // namespace

ForkSafeMutex::ForkSafeMutex() {
    const std::lock_guard lock(guarded().mutex);
    guarded().all.insert(this);
}

ForkSafeMutex::~ForkSafeMutex() {
    const std::lock_guard lock(guarded().mutex);
    guarded().all.erase(this);
}

void run_together(int threads, const std::function<void(int, bool)>& work) {
    if (threads > 1 && crew()->try_run(threads, work)) return;
    for (int thread = 0; thread < threads; ++thread) work(thread, false);
}

void Barrier::wait() {
    const unsigned round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) relax(spins);
}

}  // namespace secateur
