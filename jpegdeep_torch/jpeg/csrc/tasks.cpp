#include "tasks.h"

#include <system_error>

namespace jpegdeep {

Tasks::Tasks(int threads) {
  try {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { work(true); });
  } catch (const std::system_error&) {  // too many for the system
  }
}

void Tasks::add(std::function<void()> task) {
  const std::lock_guard<std::mutex> locked(lock_);
  tasks_.push_back(std::move(task));
  thrown_.emplace_back();
  added_.notify_one();
}

void Tasks::work(bool until_closed) {
  std::unique_lock<std::mutex> locked(lock_);
  for (;;) {
    if (until_closed) added_.wait(locked, [this] { return next_ < tasks_.size() || closed_; });
    if (next_ == tasks_.size()) return;
    const size_t number = next_++;
    const std::function<void()> task = std::move(tasks_[number]);
    locked.unlock();
    std::exception_ptr thrown;
    try {
      task();
    } catch (...) {
      thrown = std::current_exception();
    }
    locked.lock();
    thrown_[number] = thrown;
  }
}

std::vector<std::exception_ptr> Tasks::finish() {
  {
    const std::lock_guard<std::mutex> locked(lock_);
    closed_ = true;
    added_.notify_all();
  }
  work(false);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return thrown_;
}

}  // namespace jpegdeep
