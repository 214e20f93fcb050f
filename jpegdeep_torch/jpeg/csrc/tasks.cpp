#include "tasks.h"

#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace jpegdeep {

struct Tasks::Queue {
  std::mutex lock;
  std::condition_variable changed, done;
  std::vector<std::function<void()>> tasks;
  std::vector<std::exception_ptr> thrown;
  size_t next = 0, finished = 0;
  bool closed = false;

  void work(bool until_closed);
};

void Tasks::Queue::work(bool until_closed) {
  std::unique_lock<std::mutex> locked(lock);
  for (;;) {
    if (until_closed) changed.wait(locked, [this] { return next < tasks.size() || closed; });
    if (next == tasks.size()) return;
    const size_t number = next++;
    std::function<void()> task = std::move(tasks[number]);
    locked.unlock();
    std::exception_ptr error;
    try {
      task();
    } catch (...) {
      error = std::current_exception();
    }
    task = nullptr;  // before it counts as finished: what it holds may end with whoever waits for that
    locked.lock();
    thrown[number] = std::move(error);
    if (++finished == tasks.size() && closed) done.notify_all();
  }
}

Tasks::Tasks(int threads) : queue_(std::make_shared<Queue>()) {
  try {
    for (int i = 1; i < threads; ++i) std::thread([queue = queue_] { queue->work(true); }).detach();
  } catch (const std::system_error&) {  // too many for the system
  }
}

void Tasks::add(std::function<void()> task) {
  const std::lock_guard<std::mutex> locked(queue_->lock);
  queue_->tasks.push_back(std::move(task));
  queue_->thrown.emplace_back();
  queue_->changed.notify_one();
}

std::vector<std::exception_ptr> Tasks::finish() {
  Queue& queue = *queue_;
  {
    const std::lock_guard<std::mutex> locked(queue.lock);
    queue.closed = true;
    queue.changed.notify_all();
  }
  queue.work(false);
  std::unique_lock<std::mutex> locked(queue.lock);
  queue.done.wait(locked, [&queue] { return queue.finished == queue.tasks.size(); });
  return queue.thrown;
}

}  // namespace jpegdeep
