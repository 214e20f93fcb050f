#include "bits.h"

namespace jpegdeep {

bool EntropyData::unstuff(const uint8_t* data, size_t size, size_t start) {
  const size_t needed = size - start + kSlack;
  if (needed > capacity_) {
    bytes_.reset(new uint8_t[needed]);
    capacity_ = needed;
  }
  ends_.clear();
  const uint8_t* in = data + start;
  const uint8_t* const end = data + size;
  uint8_t* out = bytes_.get();
  for (;;) {
    while (end - in >= 8) {  // eight bytes at a time, up to an FF
      uint64_t word;
      std::memcpy(&word, in, sizeof word);
      std::memcpy(out, &word, sizeof word);
      const uint64_t zero_at_ff = ~word;
      const uint64_t found = (zero_at_ff - 0x0101010101010101u) & ~zero_at_ff & 0x8080808080808080u;
      if (found == 0) {
        in += 8;
        out += 8;
        continue;
      }
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
      const int before = __builtin_ctzll(found) >> 3;  // the lowest is right: borrows only go upwards
#else
      int before = 0;
      while (in[before] != 0xFF) ++before;
#endif
      in += before;
      out += before;
      break;
    }
    while (in < end && *in != 0xFF) *out++ = *in++;
    if (end - in < 2) return false;
    const uint8_t next = in[1];
    if (next == 0) {
      *out++ = 0xFF;
      in += 2;
      continue;
    }
    const size_t restarts = ends_.size();
    ends_.push_back(static_cast<size_t>(out - bytes_.get()));
    if (next < 0xD0 || next > 0xD7) break;
    if (next != 0xD0 + restarts % 8) return false;
    in += 2;
  }
  next_marker_ = static_cast<size_t>(in - data);
  std::memset(out, 0, kSlack);
  return true;
}

}  // namespace jpegdeep
