// Tasks on several threads, which begin while others are still being added.
#pragma once

#include <exception>
#include <functional>
#include <memory>
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
  //
  // It waits for the tasks alone, not for the threads: on a busy machine one of these may get its first turn long after
  // the others have done everything, and it would be waited for only to hear that nothing is left.
  std::vector<std::exception_ptr> finish();

 private:
  struct Queue;
  std::shared_ptr<Queue> queue_;  // the threads', too: the last of them may outlive this
};

}  // namespace jpegdeep
