#include "threads.hpp"

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "platform.hpp"

namespace secateur {
namespace {

constexpr int kSpins = 2000;

}  // namespace

void relax(int spins) {
    if (spins > kSpins) {
        std::this_thread::yield();
        return;
    }
    platform::relax_core();
}

namespace {

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

    // False where the crew is at another caller's work.
    bool try_run(int threads, const std::function<void(int)>& work) {
        const std::unique_lock owner(owner_, std::try_to_lock);
        if (!owner) return false;
        if (others_.look())
            for (std::thread& each : threads_) others_.keep(each);
        {
            const std::lock_guard lock(mutex_);
            while (static_cast<int>(threads_.size()) < threads - 1 && hire()) {
            }
            work_ = &work, wanted_ = threads;
            round_.fetch_add(1, std::memory_order_release);
        }
        ready_.notify_all();
        attempt(work, 0);
        {
            const std::lock_guard lock(mutex_);
            work_ = nullptr;
        }
        for (int spins = 0; at_work_.load(std::memory_order_acquire) != 0; ++spins) relax(spins);
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
        return true;
    }

   private:
    // One more thread; false where the system has none left, and those that there are must do.
    bool hire() {
        const int index = static_cast<int>(threads_.size()) + 1;
        try {
            threads_.emplace_back([this, index, seen = round_.load()] { serve(index, seen); });
        } catch (const std::system_error&) {
            return false;
        }
        others_.keep(threads_.back());
        return true;
    }

    void attempt(const std::function<void(int)>& work, int index) {
        try {
            work(index);
        } catch (...) {
            const std::lock_guard lock(mutex_);
            failure_ = std::current_exception();
        }
    }

    void serve(int index, unsigned seen) {
        for (;;) {
            for (int spins = 0; spins < kSpins && round_.load(std::memory_order_acquire) == seen; ++spins) relax(0);
            const std::function<void(int)>* work;
            {
                std::unique_lock lock(mutex_);
                ready_.wait(lock, [&] { return stop_ || round_.load() != seen; });
                if (stop_) return;
                seen = round_.load(), work = work_;
                if (work == nullptr || index >= wanted_) continue;
                at_work_.fetch_add(1, std::memory_order_relaxed);
            }
            attempt(*work, index);
            at_work_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::mutex owner_, mutex_;
    std::condition_variable ready_;
    std::vector<std::thread> threads_;
    platform::OtherCores others_;
    const std::function<void(int)>* work_ = nullptr;  // null: nothing to do, or too late
    int wanted_ = 0;
    bool stop_ = false;
    std::exception_ptr failure_;
    std::atomic<unsigned> round_{0};
    std::atomic<std::int64_t> at_work_{0};
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
    static const bool registered =
        (platform::at_fork([] { found.lock(); }, [] { found.unlock(); }, [] { found.unlock(); }), true);
    (void)registered;
    return found;
}

// A child of fork() has none of its parent's threads; it leaves the parent's crew alone and makes its own.
std::shared_ptr<Crew>* crew_holder = nullptr;

std::shared_ptr<Crew> crew() {
    static ForkSafeMutex& mutex = *new ForkSafeMutex;
    static const bool registered = (platform::at_fork(nullptr, nullptr, [] { crew_holder = nullptr; }), true);
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

void run_together(int threads, const std::function<void(int)>& work) {
    if (threads <= 1 || !crew()->try_run(threads, work)) work(0);
}

}  // namespace secateur
