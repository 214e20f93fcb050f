// Sequential files: one scan with all components in it.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "bits.h"
#include "scan.h"
#include "tasks.h"

namespace jpegdeep {
namespace {

// One block on the way through a row of MCUs.
struct Step {
  int16_t* block;
  const BlockTables* tables;
  int* last_dc;
};

// Where a row of MCUs, or an interval, ends: every entry is taken for one that does not fit in, and there it is seen.
const BlockTables& stop_tables() {
  static const auto* made = [] {
    auto* tables = new BlockTables();
    for (Entry& entry : tables->first) entry = static_cast<Entry>(kOneByOne) << 56;
    return tables;
  }();
  return *made;
}

struct Component {
  int index, horizontal, vertical;  // in the frame; blocks of an MCU
  int rows;                         // real blocks
  const uint16_t* quantisation;
  std::shared_ptr<const BlockTables> tables;
};

// The one symbol that `reader` stands before, at coefficient `k` of a block.
//
// Returns the next k, 64 at the end of the block, or -1 where there is no such code, or it leads beyond the block.
inline __attribute__((always_inline)) int decode_symbol(BitReader& reader, const BlockTables& tables, int k, int16_t* block) {
  int symbol;
  const int length = (k == 0 ? tables.dc : tables.ac).find(reader.bits(), symbol);
  if (length == 0) return -1;
  reader.skip(static_cast<unsigned>(length));
  const int size = symbol & 15, run = symbol >> 4;
  if (k == 0) {
    block[0] = static_cast<int16_t>(size == 0 ? 0 : reader.number(size));
    return 1;
  }
  if (size == 0) {
    if (run != 15) return kBlock;  // the end
    return k + 16 < kBlock ? k + 16 : -1;
  }
  k += run;
  if (k >= kBlock) return -1;
  block[kNaturalOrder[k]] = static_cast<int16_t>(reader.number(size));
  return k + 1;
}

// `a` where all bits of `mask` are set, `b` where none is, without a branch.
inline const Entry* choose(uintptr_t mask, const Entry* a, const Entry* b) {
  const auto x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return reinterpret_cast<const Entry*>(y ^ ((x ^ y) & mask));
}

// Decodes the blocks from `step` on to the first whose tables are `stop_tables`, into memory that is zero.  Of the DC
// there is the difference afterwards.
//
// Where a block ends is data here, not a branch: it could not be foreseen, and what was begun in vain would take longer
// than the lookups.  A branch is left for symbols that have to be decoded one by one.
inline __attribute__((always_inline)) bool decode_blocks_inline(BitReader& source, const Step* step) {
  const BlockTables* const stop = &stop_tables();
  BitReader reader = source;  // a copy, for the compiler to keep in registers
  const Entry* table = step->tables->first;
  const Entry* rest = step->tables->rest;
  const Entry* next_first = step[1].tables->first;
  const Entry* next_rest = step[1].tables->rest;
  int16_t* block = step->block;
  unsigned k = 0;
  for (;;) {
    if (reader.overrun()) return false;
    reader.refill();
    for (int i = 0; i < 4; ++i) {
      const Entry entry = table[reader.bits() >> (64 - kLookupBits)];
      const unsigned next = k + entry_advance(entry);
      if ((next & 64) != 0) goto one_by_one;
      reader.skip(entry_bits(entry));
      block[kNaturalOrder[k + entry_place(entry)]] = entry_value(entry);
      block[kNaturalOrder[k + entry_second_place(entry)]] = entry_second_value(entry);
      const auto end = static_cast<uintptr_t>(static_cast<int64_t>(entry) >> 63);  // all bits of it, or none
      step += end & 1;
      table = choose(end, next_first, rest);
      rest = choose(end, next_rest, rest);
      k = next & ~static_cast<unsigned>(end);
      next_first = step[1].tables->first;
      next_rest = step[1].tables->rest;
      block = step->block;
    }
    continue;
  one_by_one:
    if (step->tables == stop) break;
    reader.refill();
    const int after = decode_symbol(reader, *step->tables, static_cast<int>(k), block);
    if (after < 0) return false;
    k = static_cast<unsigned>(after);
    if (k == kBlock) {
      k = 0;
      ++step;
    }
    block = step->block;
    next_first = step[1].tables->first;
    next_rest = step[1].tables->rest;
    rest = step->tables->rest;
    table = k == 0 ? step->tables->first : rest;
  }
  source = reader;
  return source.left() >= 0;
}

bool decode_blocks_baseline(BitReader& source, const Step* step) { return decode_blocks_inline(source, step); }
#if defined(__x86_64__) && defined(__GNUC__)
// Shifts by a variable number of bits are one instruction there, and not three.
__attribute__((target("bmi,bmi2"))) bool decode_blocks_bmi2(BitReader& source, const Step* step) {
  return decode_blocks_inline(source, step);
}
const auto decode_blocks = __builtin_cpu_supports("bmi2") ? decode_blocks_bmi2 : decode_blocks_baseline;
#else
const auto decode_blocks = decode_blocks_baseline;
#endif

class Scan {
 public:
  // False: not of the kind this file is about.
  bool prepare(const Header& header, const uint8_t* data, size_t size);
  bool decode(RowSink& sink, int threads);

 private:
  bool prepare_component(const Header& header, int i, Component& to);
  bool decode_band(RowSink& sink, int first, int end) const;
  // Whether a restart interval begins with this row of MCUs.
  bool begins_interval(int row) const { return static_cast<int64_t>(row) * mcu_columns_ % interval_ == 0; }

  friend class RowDecoder;
  std::vector<Component> components_;  // in the order of the scan
  int mcu_rows_, mcu_columns_;
  int64_t interval_;  // in MCUs
  EntropyData data_;
};

// The memory of one row of MCUs, and the way through the rows.
class RowDecoder {
 public:
  explicit RowDecoder(const Scan& scan);
  // Rows of MCUs; the first begins an interval.
  bool decode(int first, int end, RowSink& sink);

 private:
  bool decode_row(int row);
  bool decode_part(size_t first, size_t end);
  void give_row(int row, RowSink& sink);

  const Scan& scan_;
  BitReader reader_;
  int last_dc_[kMaxComponents] = {};
  size_t blocks_in_mcu_ = 0, strides_[kMaxComponents];
  std::vector<int16_t> blocks_;
  int16_t* component_blocks_[kMaxComponents];
  std::vector<Step> steps_;
};

bool Scan::prepare(const Header& header, const uint8_t* data, size_t size) {
  const ScanHeader& scan = header.scan;
  components_.resize(static_cast<size_t>(scan.components));
  for (int i = 0; i < scan.components; ++i) {
    if (!prepare_component(header, i, components_[i])) return false;
  }
  const auto ceil_divide = [](int a, int b) { return (a + b - 1) / b; };
  const FrameComponent& alone = header.component[scan.component[0]];
  const bool interleaved = scan.components > 1;
  mcu_columns_ = interleaved ? ceil_divide(header.width, 8 * header.largest_horizontal) : alone.columns;
  mcu_rows_ = interleaved ? ceil_divide(header.height, 8 * header.largest_vertical) : alone.rows;
  const int64_t mcus = static_cast<int64_t>(mcu_rows_) * mcu_columns_;
  interval_ = header.restart_interval > 0 ? header.restart_interval : mcus;
  return data_.unstuff(data, size, scan.data_start) && data[data_.next_marker() + 1] == 0xD9 &&
         data_.intervals() == (mcus + interval_ - 1) / interval_;
}

bool Scan::prepare_component(const Header& header, int i, Component& to) {
  // A scan of one component is not interleaved: its MCU is one block, whatever the sampling factors.
  const bool interleaved = header.scan.components > 1;
  const FrameComponent& from = header.component[header.scan.component[i]];
  const HuffmanSpec& dc = header.dc[header.scan.dc_table[i]];
  const HuffmanSpec& ac = header.ac[header.scan.ac_table[i]];
  if (!dc.defined || !ac.defined || !header.quantisation_defined[from.table]) return false;
  to.index = header.scan.component[i];
  to.horizontal = interleaved ? from.horizontal : 1;
  to.vertical = interleaved ? from.vertical : 1;
  to.rows = from.rows;
  to.quantisation = header.quantisation[from.table];
  to.tables = block_tables(dc, ac);
  return to.tables != nullptr;
}

RowDecoder::RowDecoder(const Scan& scan) : scan_(scan) {
  size_t count = 0;
  const auto columns = static_cast<size_t>(scan.mcu_columns_);
  for (const Component& component : scan.components_) {
    blocks_in_mcu_ += static_cast<size_t>(component.horizontal * component.vertical);
  }
  blocks_.resize(columns * blocks_in_mcu_ * kBlock);
  for (size_t i = 0; i < scan.components_.size(); ++i) {
    const Component& component = scan.components_[i];
    strides_[i] = columns * static_cast<size_t>(component.horizontal) * kBlock;
    component_blocks_[i] = blocks_.data() + count;
    count += strides_[i] * static_cast<size_t>(component.vertical);
  }
  steps_.reserve(columns * blocks_in_mcu_ + 2);
  for (size_t column = 0; column < columns; ++column) {
    for (size_t i = 0; i < scan.components_.size(); ++i) {
      const Component& component = scan.components_[i];
      int16_t* corner = component_blocks_[i] + column * static_cast<size_t>(component.horizontal) * kBlock;
      for (int v = 0; v < component.vertical; ++v, corner += strides_[i]) {
        for (int h = 0; h < component.horizontal; ++h) {
          steps_.push_back({corner + h * kBlock, component.tables.get(), &last_dc_[i]});
        }
      }
    }
  }
  steps_.insert(steps_.end(), 2, Step{blocks_.data(), &stop_tables(), nullptr});
}

bool RowDecoder::decode(int first, int end, RowSink& sink) {
  for (int row = first; row < end; ++row) {
    std::memset(blocks_.data(), 0, blocks_.size() * sizeof blocks_[0]);
    if (!decode_row(row)) return false;
    give_row(row, sink);
  }
  return true;
}

bool RowDecoder::decode_row(int row) {
  const int64_t begin = static_cast<int64_t>(row) * scan_.mcu_columns_, end = begin + scan_.mcu_columns_;
  for (int64_t mcu = begin; mcu < end;) {
    const int64_t number = mcu / scan_.interval_;
    if (mcu % scan_.interval_ == 0) {
      reader_ = BitReader(scan_.data_.begin(static_cast<int>(number)), scan_.data_.end(static_cast<int>(number)));
      for (int& dc : last_dc_) dc = 0;
    }
    const int64_t interval_end = (number + 1) * scan_.interval_;
    const int64_t stop = interval_end < end ? interval_end : end;
    if (!decode_part(static_cast<size_t>(mcu - begin), static_cast<size_t>(stop - begin))) return false;
    const bool last = stop == static_cast<int64_t>(scan_.mcu_rows_) * scan_.mcu_columns_;
    // Whole bytes left over are what libjpeg warns of.
    if ((stop == interval_end || last) && reader_.left() >= 8) return false;
    mcu = stop;
  }
  return true;
}

// The MCUs of the row from `first` to `end`.
bool RowDecoder::decode_part(size_t first, size_t end) {
  Step* const stop = steps_.data() + end * blocks_in_mcu_;
  const BlockTables* const behind = stop->tables;
  stop->tables = &stop_tables();
  const bool sound = decode_blocks(reader_, steps_.data() + first * blocks_in_mcu_);
  stop->tables = behind;
  if (!sound) return false;
  for (const Step* step = steps_.data() + first * blocks_in_mcu_; step != stop; ++step) {
    const int dc = *step->last_dc + step->block[0];
    if (dc != static_cast<int16_t>(dc)) return false;
    *step->last_dc = dc;
    step->block[0] = static_cast<int16_t>(dc);
  }
  return true;
}

void RowDecoder::give_row(int mcu_row, RowSink& sink) {
  for (size_t i = 0; i < scan_.components_.size(); ++i) {
    const Component& component = scan_.components_[i];
    for (int v = 0; v < component.vertical; ++v) {
      const int row = mcu_row * component.vertical + v;
      if (row >= component.rows) break;
      sink.row(component.index, row, component_blocks_[i] + static_cast<size_t>(v) * strides_[i],
               component.quantisation);
    }
  }
}

bool Scan::decode(RowSink& sink, int threads) {
  std::vector<int> starts{0};  // of bands of rows of MCUs, one for each thread
  for (int i = 1; i < threads; ++i) {
    int row = std::max(starts.back() + 1, static_cast<int>(static_cast<int64_t>(mcu_rows_) * i / threads));
    while (row < mcu_rows_ && !begins_interval(row)) ++row;
    if (row < mcu_rows_) starts.push_back(row);
  }
  int first[kMaxComponents] = {}, end[kMaxComponents] = {};
  if (starts.size() == 1 || sink.part(first, end) == nullptr) {
    RowDecoder rows(*this);
    return rows.decode(0, mcu_rows_, sink);
  }
  starts.push_back(mcu_rows_);
  std::atomic<bool> sound{true};
  Tasks tasks(static_cast<int>(starts.size()) - 1);
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    tasks.add([&, i] {
      if (!decode_band(sink, starts[i], starts[i + 1])) sound = false;
    });
  }
  for (const std::exception_ptr& thrown : tasks.finish()) {
    if (thrown) std::rethrow_exception(thrown);
  }
  return sound;
}

// The rows of MCUs [first, end) by a part of the sink, and those before that it needs.
bool Scan::decode_band(RowSink& sink, int first, int end) const {
  int first_row[kMaxComponents] = {}, end_row[kMaxComponents] = {};
  for (const Component& component : components_) {
    first_row[component.index] = first * component.vertical;
    end_row[component.index] = std::min(end * component.vertical, component.rows);
  }
  const std::unique_ptr<RowSink> part = sink.part(first_row, end_row);
  for (const Component& component : components_) first = std::min(first, first_row[component.index] / component.vertical);
  while (!begins_interval(first)) --first;
  RowDecoder rows(*this);
  return rows.decode(first, end, *part);
}

}  // namespace

bool decode_sequential(const Header& header, const uint8_t* data, size_t size, RowSink& sink, int threads) {
  if (header.progressive || header.several_scans()) return false;
  Scan scan;
  return scan.prepare(header, data, size) && scan.decode(sink, threads);
}

}  // namespace jpegdeep
