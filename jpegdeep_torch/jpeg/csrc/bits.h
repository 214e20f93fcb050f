// A scan's bytes without stuffing and markers, and the bits in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "huffman.h"

namespace jpegdeep {

// One scan, split at its restart markers.
class EntropyData {
 public:
  // From data[start] to the first marker that is no restart marker.  False where there is none, or the restart markers
  // are not numbered as they should be.
  bool unstuff(const uint8_t* data, size_t size, size_t start);

  int intervals() const { return static_cast<int>(ends_.size()); }
  const uint8_t* begin(int interval) const { return bytes_.get() + (interval == 0 ? 0 : ends_[interval - 1]); }
  const uint8_t* end(int interval) const { return bytes_.get() + ends_[interval]; }
  size_t next_marker() const { return next_marker_; }  // in the file

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t capacity_ = 0, next_marker_ = 0;
  std::vector<size_t> ends_;
};

// How far behind the end of an interval may be read.
constexpr size_t kSlack = 64;

// The bits of one restart interval.  Behind its end there are others, which is found out by `overrun` or `left`.
class BitReader {
 public:
  BitReader() = default;
  BitReader(const uint8_t* begin, const uint8_t* end) : next_(begin), end_(end) {}

  // At least 56 bits are there afterwards.  Not more than 7 bytes further each time; see `overrun`.
  void refill() {
    uint64_t word;
    std::memcpy(&word, next_, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    bits_ |= word >> count_;
    next_ += (63 - count_) >> 3;
    count_ |= 56;
  }
  // More bits have been consumed than there are: to be asked before every refill but the first.
  bool overrun() const { return next_ > end_ + 8; }
  uint64_t bits() const { return bits_; }
  void skip(unsigned n) {
    bits_ <<= n;
    count_ -= n;
  }
  // What the next 0 < n < 32 bits are as a number without a sign.
  unsigned take(int n) {
    const auto value = static_cast<unsigned>(bits_ >> (64 - n));
    skip(static_cast<unsigned>(n));
    return value;
  }
  // The number that the next 0 < size < 16 bits stand for.
  int number(int size) { return extend(take(size), size); }
  // How many bits of the interval have not been consumed; negative after an overrun.
  ptrdiff_t left() const { return 8 * (end_ - next_) + static_cast<ptrdiff_t>(count_); }

 private:
  const uint8_t* next_ = nullptr;
  const uint8_t* end_ = nullptr;
  uint64_t bits_ = 0;  // from the top; below the first count_ bits there may be some of what comes next
  unsigned count_ = 0;
};

}  // namespace jpegdeep
