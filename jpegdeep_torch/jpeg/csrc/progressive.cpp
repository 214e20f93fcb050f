// Progressive files: spectral selection and successive approximation (T.81, annex G).
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "bits.h"
#include "scan.h"

namespace jpegdeep {
namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// All coefficients of one component, with the blocks that fill up its last MCUs.
struct Plane {
  int columns = 0, rows = 0;          // real blocks
  size_t stride = 0, blocks = 0;      // all of them: in a row, and together
  std::unique_ptr<int16_t[], Free> coefficients;
  std::unique_ptr<uint64_t[], Free> nonzero;  // of each block, a bit for each AC coefficient, in the order of the file
  int8_t low_bits[kBlock];            // the lowest bit that is known of each frequency; -1 before its first scan

  int16_t* block(size_t index) const { return coefficients.get() + index * kBlock; }
};

class Progressive {
 public:
  // False where the memory is not there.
  bool allocate(const Header& header);
  bool decode(const Header& header, const uint8_t* data, size_t size);
  void give(const Header& header, RowSink& sink) const;

 private:
  bool begin_scan(const Header& header);
  bool takes_its_turn(const Header& header);
  bool decode_scan(const Header& header);
  bool decode_mcus(const Header& header, int row, int first, int end);
  bool dc_mcu(const Header& header, int row, int column);
  bool dc_block(int i, int16_t* block);
  bool first_blocks(Plane& plane, size_t index, size_t end);
  bool refined_blocks(Plane& plane, size_t index, size_t end);

  Plane planes_[kMaxComponents];
  double blocks_visited_ = 0;
  // Of the scan:
  EntropyData data_;
  BitReader reader_;
  int first_ = 0, last_ = 0, low_ = 0;
  bool refines_ = false;
  int last_dc_[kMaxComponents];
  unsigned end_run_ = 0;  // blocks still to come that hold nothing new
  CodeTable codes_[kMaxComponents];
  int lookup_bits_ = 0;
  Entry entries_[1 << kLookupBits];
};

bool Progressive::allocate(const Header& header) {
  const auto ceil_divide = [](int a, int b) { return (a + b - 1) / b; };
  const int mcu_columns = ceil_divide(header.width, 8 * header.largest_horizontal);
  const int mcu_rows = ceil_divide(header.height, 8 * header.largest_vertical);
  for (int c = 0; c < header.components; ++c) {
    const FrameComponent& component = header.component[c];
    Plane& plane = planes_[c];
    plane.columns = component.columns;
    plane.rows = component.rows;
    plane.stride = static_cast<size_t>(mcu_columns) * static_cast<size_t>(component.horizontal);
    plane.blocks = plane.stride * static_cast<size_t>(mcu_rows) * static_cast<size_t>(component.vertical);
    plane.coefficients.reset(static_cast<int16_t*>(std::calloc(plane.blocks, kBlock * sizeof(int16_t))));
    plane.nonzero.reset(static_cast<uint64_t*>(std::calloc(plane.blocks, sizeof(uint64_t))));
    std::memset(plane.low_bits, -1, sizeof plane.low_bits);
    if (!plane.coefficients || !plane.nonzero) return false;
  }
  return true;
}

bool Progressive::decode(const Header& first, const uint8_t* data, size_t size) {
  Header header = first;
  for (int scans = 1;; ++scans) {
    if (scans > kMaxScans || !begin_scan(header) || blocks_visited_ > most_blocks_visited(size)) return false;
    if (!data_.unstuff(data, size, header.scan.data_start) || !decode_scan(header)) return false;
    const int next = parse_next_scan(data, size, data_.next_marker(), header);
    if (next < 0) return false;
    if (next == 0) break;
  }
  for (int c = 0; c < first.components; ++c) {
    if (planes_[c].low_bits[0] < 0) return false;  // not one scan
  }
  return true;
}

// Takes the scan's parameters; false where libjpeg would warn of them, or they are of no use.
bool Progressive::begin_scan(const Header& header) {
  const ScanHeader& scan = header.scan;
  first_ = scan.first;
  last_ = scan.last;
  low_ = scan.low;
  refines_ = scan.high != 0;
  if (first_ == 0 ? last_ != 0 : (last_ < first_ || last_ >= kBlock || scan.components != 1)) return false;
  if (low_ > 13 || (refines_ && low_ != scan.high - 1) || !takes_its_turn(header)) return false;
  for (int i = 0; i < scan.components; ++i) {
    blocks_visited_ += static_cast<double>(planes_[scan.component[i]].blocks);
    if (first_ == 0 && refines_) continue;  // single bits, without codes
    const HuffmanSpec& spec = first_ == 0 ? header.dc[scan.dc_table[i]] : header.ac[scan.ac_table[i]];
    if (!spec.defined || !codes_[i].build(spec, first_ == 0)) return false;
  }
  return true;
}

// Whether the scan brings bits that come next, of every frequency in it.
bool Progressive::takes_its_turn(const Header& header) {
  const ScanHeader& scan = header.scan;
  for (int i = 0; i < scan.components; ++i) {
    Plane& plane = planes_[scan.component[i]];
    if (!header.quantisation_defined[header.component[scan.component[i]].table]) return false;
    if (first_ > 0 && plane.low_bits[0] < 0) return false;
    for (int k = first_; k <= last_; ++k) {
      if (plane.low_bits[k] != (refines_ ? scan.high : -1)) return false;
      plane.low_bits[k] = static_cast<int8_t>(low_);
    }
  }
  return true;
}

bool Progressive::decode_scan(const Header& header) {
  const bool interleaved = header.scan.components > 1;
  const Plane& alone = planes_[header.scan.component[0]];
  const FrameComponent& component = header.component[header.scan.component[0]];
  const int columns = interleaved ? static_cast<int>(alone.stride) / component.horizontal : alone.columns;
  const int rows = interleaved ? static_cast<int>(alone.blocks / alone.stride) / component.vertical : alone.rows;
  const int64_t mcus = static_cast<int64_t>(columns) * rows;
  const int64_t interval = header.restart_interval > 0 ? header.restart_interval : mcus;
  if (data_.intervals() != (mcus + interval - 1) / interval) return false;
  if (first_ > 0 && !refines_) {  // a table of many entries is of use where there is much to look up
    const auto bytes = data_.end(data_.intervals() - 1) - data_.begin(0);
    lookup_bits_ = bytes > 8192 ? 10 : bytes > 2048 ? 9 : 8;
    fill_entries(codes_[0], lookup_bits_, entries_);
  }
  for (int64_t mcu = 0; mcu < mcus;) {
    const int64_t number = mcu / interval;
    if (mcu % interval == 0) {
      reader_ = BitReader(data_.begin(static_cast<int>(number)), data_.end(static_cast<int>(number)));
      std::memset(last_dc_, 0, sizeof last_dc_);
      end_run_ = 0;
    }
    const int row = static_cast<int>(mcu / columns);
    const int64_t row_begin = static_cast<int64_t>(row) * columns;
    const int64_t interval_end = std::min((number + 1) * interval, mcus), stop = std::min(interval_end, row_begin + columns);
    if (!decode_mcus(header, row, static_cast<int>(mcu - row_begin), static_cast<int>(stop - row_begin))) return false;
    if (reader_.left() < 0 || (stop == interval_end && reader_.left() >= 8)) return false;
    mcu = stop;
  }
  return true;
}

// The MCUs [first, end) of a row.
bool Progressive::decode_mcus(const Header& header, int row, int first, int end) {
  if (first_ == 0) {
    for (int column = first; column < end; ++column) {
      if (!dc_mcu(header, row, column)) return false;
    }
    return true;
  }
  Plane& plane = planes_[header.scan.component[0]];
  const size_t begin = static_cast<size_t>(row) * plane.stride;
  const size_t from = begin + static_cast<size_t>(first), to = begin + static_cast<size_t>(end);
  return refines_ ? refined_blocks(plane, from, to) : first_blocks(plane, from, to);
}

bool Progressive::dc_mcu(const Header& header, int row, int column) {
  const ScanHeader& scan = header.scan;
  for (int i = 0; i < scan.components; ++i) {
    const FrameComponent& component = header.component[scan.component[i]];
    const Plane& plane = planes_[scan.component[i]];
    const int horizontal = scan.components > 1 ? component.horizontal : 1;
    const int vertical = scan.components > 1 ? component.vertical : 1;
    for (int v = 0; v < vertical; ++v) {
      size_t index = static_cast<size_t>(row * vertical + v) * plane.stride + static_cast<size_t>(column * horizontal);
      for (int h = 0; h < horizontal; ++h, ++index) {
        if (!dc_block(i, plane.block(index))) return false;
      }
    }
  }
  return true;
}

inline bool Progressive::dc_block(int i, int16_t* block) {
  if (reader_.overrun()) return false;
  reader_.refill();
  if (refines_) {
    block[0] = static_cast<int16_t>(block[0] | static_cast<int>(reader_.take(1)) << low_);
    return true;
  }
  int size = 0;
  const int length = codes_[i].find(reader_.bits(), size);
  if (length == 0) return false;
  reader_.skip(static_cast<unsigned>(length));
  if (size != 0) last_dc_[i] += reader_.number(size);
  const int value = last_dc_[i] * (1 << low_);
  block[0] = static_cast<int16_t>(value);
  return value == static_cast<int16_t>(value) && last_dc_[i] == static_cast<int16_t>(last_dc_[i]);
}

// First scans of AC coefficients: blocks [index, end) of the plane, in one row.
bool Progressive::first_blocks(Plane& plane, size_t index, size_t end) {
  const unsigned bias = static_cast<unsigned>(63 - last_);  // so that beyond the last frequency is 64, as in an Entry
  const unsigned begin = static_cast<unsigned>(first_) + bias;
  BitReader reader = reader_;
  const int shift = 64 - lookup_bits_, low = low_;
  for (; index < end; ++index) {
    if (end_run_ > 0) {
      const size_t skipped = std::min<size_t>(end_run_, end - index);
      end_run_ -= static_cast<unsigned>(skipped);
      index += skipped - 1;
      continue;
    }
    int16_t* block = plane.block(index);
    uint64_t nonzero = 0;
    for (unsigned k = begin; k < 64;) {
      if (reader.overrun()) return false;
      reader.refill();
      const Entry entry = entries_[reader.bits() >> shift];
      const unsigned next = k + entry_advance(entry);
      if ((next & 64) == 0) {
        reader.skip(entry_bits(entry));
        const unsigned one = k + entry_place(entry), two = k + entry_second_place(entry);
        const int a = entry_value(entry) * (1 << low), b = entry_second_value(entry) * (1 << low);
        if (a != static_cast<int16_t>(a) || b != static_cast<int16_t>(b)) return false;
        block[kNaturalOrder[one - bias]] = static_cast<int16_t>(a);
        block[kNaturalOrder[two - bias]] = static_cast<int16_t>(b);
        nonzero |= static_cast<uint64_t>(a != 0) << (one - bias) | static_cast<uint64_t>(b != 0) << (two - bias);
        k = next;  // 128 and more at the end of the block
        continue;
      }
      int symbol = 0;
      const int length = codes_[0].find(reader.bits(), symbol);
      if (length == 0) return false;
      reader.skip(static_cast<unsigned>(length));
      const int size = symbol & 15, run = symbol >> 4;
      if (size == 0 && run < 15) {
        end_run_ = (1u << run) - 1 + (run == 0 ? 0 : reader.take(run));
        break;
      }
      k += static_cast<unsigned>(run) + (size == 0 ? 1 : 0);
      if (k >= 64) return false;
      if (size == 0) continue;
      const int value = reader.number(size) * (1 << low);
      if (value != static_cast<int16_t>(value)) return false;
      block[kNaturalOrder[k - bias]] = static_cast<int16_t>(value);
      nonzero |= uint64_t{1} << (k - bias);
      ++k;
    }
    plane.nonzero[index] |= nonzero;
  }
  reader_ = reader;
  return true;
}

// Reads one more bit of each coefficient of `which`; `step` is what the bit stands for.
inline void correct(BitReader& reader, int16_t* block, uint64_t which, int step) {
  constexpr uint64_t kLowHalf = 0xFFFFFFFF;
  for (const uint64_t half : {which & kLowHalf, which & ~kLowHalf}) {
    if (half == 0) continue;
    reader.refill();
    uint64_t bits = reader.bits();
    unsigned count = 0;
    for (uint64_t rest = half; rest != 0; rest &= rest - 1, bits <<= 1, ++count) {
      int16_t& coefficient = block[kNaturalOrder[__builtin_ctzll(rest)]];
      const int sign = coefficient >> 15;
      const int change = step & static_cast<int>(static_cast<int64_t>(bits) >> 63);
      coefficient = static_cast<int16_t>(coefficient + ((change ^ sign) - sign));  // away from 0
    }
    reader.skip(count);
  }
}

// Later scans of AC coefficients: blocks [index, end) of the plane, in one row.
bool Progressive::refined_blocks(Plane& plane, size_t index, size_t end) {
  const uint64_t band = (~uint64_t{0} >> (63 - last_)) & (~uint64_t{0} << first_);
  const int step = 1 << low_;
  BitReader reader = reader_;
  unsigned end_run = end_run_;
  for (; index < end; ++index) {
    int16_t* block = plane.block(index);
    uint64_t nonzero = plane.nonzero[index];
    uint64_t left = band;  // frequencies still to come
    while (end_run == 0 && left != 0) {
      if (reader.overrun()) return false;
      reader.refill();
      int symbol = 0;
      const int length = codes_[0].find(reader.bits(), symbol);
      if (length == 0) return false;
      reader.skip(static_cast<unsigned>(length));
      const int size = symbol & 15;
      int run = symbol >> 4, value = 0;
      if (size > 1) return false;
      if (size == 1) {
        value = reader.take(1) != 0 ? step : -step;
      } else if (run < 15) {
        end_run = (1u << run) + (run == 0 ? 0 : reader.take(run));
        break;
      }
      // `run` zeros are left as they are, and then comes the new one.
      uint64_t zeros = left & ~nonzero;
      for (; run > 0; --run) zeros &= zeros - 1;
      if (zeros == 0) return false;
      const uint64_t place = zeros & (~zeros + 1);
      const uint64_t old = left & nonzero & (place - 1);
      if (old != 0) correct(reader, block, old, step);
      left &= ~((place << 1) - 1);
      if (value == 0) continue;
      block[kNaturalOrder[__builtin_ctzll(place)]] = static_cast<int16_t>(value);
      nonzero |= place;
    }
    if (end_run > 0) {
      if (reader.overrun()) return false;
      if ((left & nonzero) != 0) correct(reader, block, left & nonzero, step);
      --end_run;
    }
    plane.nonzero[index] = nonzero;
  }
  reader_ = reader;
  end_run_ = end_run;
  return true;
}

void Progressive::give(const Header& header, RowSink& sink) const {
  for (int c = 0; c < header.components; ++c) {
    const Plane& plane = planes_[c];
    for (int row = 0; row < plane.rows; ++row) {
      sink.row(c, row, plane.block(static_cast<size_t>(row) * plane.stride),
               header.quantisation[header.component[c].table]);
    }
  }
}

}  // namespace

bool decode_progressive(const Header& header, const uint8_t* data, size_t size, RowSink& sink) {
  const auto progressive = std::make_unique<Progressive>();
  if (!progressive->allocate(header) || !progressive->decode(header, data, size)) return false;
  progressive->give(header, sink);
  return true;
}

}  // namespace jpegdeep
