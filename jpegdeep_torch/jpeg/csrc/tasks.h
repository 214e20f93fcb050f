// Tasks on several threads, which begin while others are still being added.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace jpegdeep {

class Tasks {
 public:
  // `threads` with the one that calls `finish`.  Where the system gives fewer, fewer do the work.
  explicit Tasks(int threads);
  ~Tasks() { finish(); }
  Tasks(const Tasks&) = delete;
  Tasks& operator=(const Tasks&) = delete;

  void add(std::function<void()> task);
  // Takes part in the work until all of it is done -> what each task threw, in the order in which they were added.
  std::vector<std::exception_ptr> finish();

 private:
  void work(bool until_closed);

  std::mutex lock_;
  std::condition_variable added_;
  std::vector<std::function<void()>> tasks_;
  std::vector<std::exception_ptr> thrown_;
  size_t next_ = 0;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace jpegdeep
