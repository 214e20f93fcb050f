#include "scan.h"

#include <cstring>
#include <vector>

namespace jpegdeep {
namespace {

// ITU-T T.81, figure A.6: the natural index of each coefficient in the order of the file.
constexpr uint8_t kNaturalOrder[64] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

constexpr int kLookupBits = 10;
constexpr int kMaxBlocksInMcu = 10;  // T.81, B.2.3
// More than a block can take (64 codes of at most 16 + 15 bits), so that overruns need looking for once a block.
constexpr size_t kSlack = 512;

// The number that `size` bits stand for (T.81, F.2.2.1, EXTEND).
inline int extend(unsigned bits, int size) {
  return bits < (1u << (size - 1)) ? static_cast<int>(bits) - (1 << size) + 1 : static_cast<int>(bits);
}

// What the next kLookupBits bits begin with.
struct Entry {
  int16_t value;   // a whole coefficient, where code and number fit in; else 0
  uint8_t symbol;  // with a value, the zeros before it; else the code's symbol
  uint8_t bits;    // to be consumed; 0 where the code is longer than the lookup
};

class HuffmanTable {
 public:
  // False for a table that libjpeg would not take either.  `is_dc`: symbols are sizes, without a run.
  bool build(const JHUFF_TBL& table, bool is_dc);

  const Entry& lookup(uint64_t bits) const { return entries_[bits >> (64 - kLookupBits)]; }
  // For codes longer than the lookup: their length, or 0 where there is no such code.
  int long_code(uint64_t bits, uint8_t& symbol) const {
    const uint32_t next = static_cast<uint32_t>(bits >> 48);
    for (int length = kLookupBits + 1; length <= 16; ++length) {
      if (next >= limit_[length]) continue;
      symbol = symbols_[(next >> (16 - length)) - first_code_[length] + first_index_[length]];
      return length;
    }
    return 0;
  }

 private:
  void enter(uint32_t code, int length, uint8_t symbol, bool is_dc);

  Entry entries_[1 << kLookupBits];
  uint32_t limit_[17], first_code_[17], first_index_[17];  // by code length; limits are aligned to 16 bits
  uint8_t symbols_[256];
};

bool HuffmanTable::build(const JHUFF_TBL& table, bool is_dc) {
  std::memset(entries_, 0, sizeof entries_);
  std::memcpy(symbols_, table.huffval, sizeof symbols_);
  uint32_t code = 0, index = 0;
  for (int length = 1; length <= 16; ++length, code <<= 1) {
    first_code_[length] = code;
    first_index_[length] = index;
    if (index + table.bits[length] > 256) return false;
    for (int i = 0; i < table.bits[length]; ++i, ++code, ++index) {
      if (is_dc && symbols_[index] > 15) return false;
      if (code + 1 >= (1u << length)) return false;  // too many codes, or the one of all ones, which is reserved
      if (length <= kLookupBits) enter(code, length, symbols_[index], is_dc);
    }
    limit_[length] = code << (16 - length);
  }
  return true;
}

void HuffmanTable::enter(uint32_t code, int length, uint8_t symbol, bool is_dc) {
  const int rest = kLookupBits - length;
  const int size = is_dc ? symbol : symbol & 15;
  for (uint32_t tail = 0; tail < (1u << rest); ++tail) {
    Entry& entry = entries_[(code << rest) | tail];
    if (size > 0 && size <= rest) {
      const uint8_t run = is_dc ? 0 : symbol >> 4;
      entry = {static_cast<int16_t>(extend(tail >> (rest - size), size)), run, static_cast<uint8_t>(length + size)};
    } else {
      entry = {0, symbol, static_cast<uint8_t>(length)};
    }
  }
}

// Bits of one restart interval, from bytes already free of stuffing; reads up to kSlack bytes past its end.
class BitReader {
 public:
  BitReader(const uint8_t* begin, const uint8_t* end) : next_(begin), end_(end) {}

  // At least 56 bits are there afterwards.
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
  uint64_t bits() const { return bits_; }
  void skip(int n) {
    bits_ <<= n;
    count_ -= n;
  }
  int number(int size) {
    const int value = extend(static_cast<unsigned>(bits_ >> (64 - size)), size);
    skip(size);
    return value;
  }
  // How many bits of the interval have not been consumed; negative after an overrun.
  ptrdiff_t left() const { return 8 * (end_ - next_) + count_; }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
  uint64_t bits_ = 0;  // from the top; below the first count_ bits there may be some of what comes next
  int count_ = 0;
};

struct Component {
  int index, horizontal, vertical;  // in the frame; blocks of an MCU
  int columns, rows;                // real blocks
  const uint16_t* quantisation;
  HuffmanTable dc, ac;
  int last_dc = 0;
  std::vector<int16_t> blocks;  // one row of MCUs
  size_t stride;                // of a row of blocks
};

// The interval's code for one block; false where it is not one that a sound encoder writes.
inline bool decode_block(BitReader& source, Component& component, int16_t* block) {
  typedef int64_t Pair __attribute__((vector_size(16), aligned(2)));
  for (int i = 0; i < 8; ++i) reinterpret_cast<Pair*>(block)[i] = Pair{0, 0};  // GCC's memset of 128 bytes is slow
  BitReader reader = source;  // a copy, for the compiler to keep in registers
  reader.refill();
  Entry entry = component.dc.lookup(reader.bits());
  int difference = entry.value;
  if (entry.bits == 0) entry.bits = static_cast<uint8_t>(component.dc.long_code(reader.bits(), entry.symbol));
  if (entry.bits == 0) return false;
  reader.skip(entry.bits);
  if (difference == 0 && entry.symbol != 0) difference = reader.number(entry.symbol);
  component.last_dc += difference;
  if (component.last_dc != static_cast<int16_t>(component.last_dc)) return false;
  block[0] = static_cast<int16_t>(component.last_dc);

  for (int k = 1; k < kBlock;) {
    reader.refill();
    entry = component.ac.lookup(reader.bits());
    if (entry.value != 0) {
      reader.skip(entry.bits);
      k += entry.symbol;
      if (k >= kBlock) return false;
      block[kNaturalOrder[k++]] = entry.value;
      continue;
    }
    if (entry.bits == 0) entry.bits = static_cast<uint8_t>(component.ac.long_code(reader.bits(), entry.symbol));
    if (entry.bits == 0) return false;
    reader.skip(entry.bits);
    const int run = entry.symbol >> 4, size = entry.symbol & 15;
    if (size == 0 && run != 15) break;  // end of the block
    k += run + (size == 0 ? 1 : 0);
    if (k >= kBlock) return false;
    if (size != 0) block[kNaturalOrder[k++]] = static_cast<int16_t>(reader.number(size));
  }
  source = reader;
  return source.left() >= 0;
}

class Scan {
 public:
  // False: not of the kind this file is about.
  bool prepare(const jpeg_decompress_struct& info);
  bool decode(RowSink& sink);

 private:
  bool prepare_component(const jpeg_decompress_struct& info, const jpeg_component_info& from, Component& to);
  bool unstuff(const uint8_t* data, size_t size);
  bool decode_mcu(BitReader& reader, int column);
  void give_row(RowSink& sink, int mcu_row);

  std::vector<Component> components_;  // in the order of the scan
  int mcu_rows_, mcu_columns_, restart_interval_;
  std::vector<uint8_t> bytes_;      // the scan without stuffing and markers
  std::vector<size_t> interval_ends_;  // in bytes_
};

bool Scan::prepare(const jpeg_decompress_struct& info) {
  if (info.arith_code || info.progressive_mode || info.comps_in_scan != info.num_components || info.Ss != 0 ||
      info.Se != kBlock - 1 || info.Ah != 0 || info.Al != 0) {
    return false;
  }
  components_.resize(info.comps_in_scan);
  int blocks = 0;
  for (int c = 0; c < info.comps_in_scan; ++c) {
    if (!prepare_component(info, *info.cur_comp_info[c], components_[c])) return false;
    blocks += components_[c].horizontal * components_[c].vertical;
  }
  if (blocks > kMaxBlocksInMcu) return false;
  const bool interleaved = components_.size() > 1;
  const auto ceil_divide = [](int a, int b) { return (a + b - 1) / b; };
  const int width = static_cast<int>(info.image_width), height = static_cast<int>(info.image_height);
  mcu_columns_ = interleaved ? ceil_divide(width, 8 * info.max_h_samp_factor) : components_[0].columns;
  mcu_rows_ = interleaved ? ceil_divide(height, 8 * info.max_v_samp_factor) : components_[0].rows;
  restart_interval_ = static_cast<int>(info.restart_interval);
  for (Component& component : components_) {
    component.stride = static_cast<size_t>(mcu_columns_) * component.horizontal * kBlock;
    component.blocks.resize(component.stride * component.vertical);
  }
  return unstuff(info.src->next_input_byte, info.src->bytes_in_buffer);
}

bool Scan::prepare_component(const jpeg_decompress_struct& info, const jpeg_component_info& from, Component& to) {
  // A scan of one component is not interleaved: its MCU is one block, whatever the sampling factors.
  const bool interleaved = info.comps_in_scan > 1;
  to.index = from.component_index;
  to.horizontal = interleaved ? from.h_samp_factor : 1;
  to.vertical = interleaved ? from.v_samp_factor : 1;
  to.columns = static_cast<int>(from.width_in_blocks);
  to.rows = static_cast<int>(from.height_in_blocks);
  to.quantisation = quantisation_table(info, to.index);
  if (to.quantisation == nullptr || from.dc_tbl_no < 0 || from.dc_tbl_no >= NUM_HUFF_TBLS || from.ac_tbl_no < 0 ||
      from.ac_tbl_no >= NUM_HUFF_TBLS) {
    return false;
  }
  const JHUFF_TBL* dc = info.dc_huff_tbl_ptrs[from.dc_tbl_no];
  const JHUFF_TBL* ac = info.ac_huff_tbl_ptrs[from.ac_tbl_no];
  return dc != nullptr && ac != nullptr && to.dc.build(*dc, true) && to.ac.build(*ac, false);
}

// Splits the scan at its restart markers and takes out the zero bytes after FF.  False unless EOI ends it.
bool Scan::unstuff(const uint8_t* data, size_t size) {
  const uint8_t* const end = data + size;
  bytes_.resize(size + kSlack);
  uint8_t* out = bytes_.data();
  for (;;) {
    const auto* ff = static_cast<const uint8_t*>(std::memchr(data, 0xFF, static_cast<size_t>(end - data)));
    if (ff == nullptr || end - ff < 2) return false;
    std::memcpy(out, data, static_cast<size_t>(ff - data));
    out += ff - data;
    const uint8_t next = ff[1];
    data = ff + 2;
    if (next == 0) {
      *out++ = 0xFF;
      continue;
    }
    const size_t restarts = interval_ends_.size();
    interval_ends_.push_back(static_cast<size_t>(out - bytes_.data()));
    if (next == JPEG_EOI) return true;
    if (next != JPEG_RST0 + restarts % 8) return false;
  }
}

bool Scan::decode(RowSink& sink) {
  const int64_t mcus = static_cast<int64_t>(mcu_rows_) * mcu_columns_;
  const int64_t interval = restart_interval_ > 0 ? restart_interval_ : mcus;
  if (static_cast<int64_t>(interval_ends_.size()) != (mcus + interval - 1) / interval) return false;
  BitReader reader(nullptr, nullptr);
  int64_t mcu = 0, next_restart = 0;
  for (int row = 0; row < mcu_rows_; ++row) {
    for (int column = 0; column < mcu_columns_; ++column, ++mcu) {
      if (mcu == next_restart) {
        next_restart += interval;
        // Whole bytes left over are what libjpeg warns of.
        if (mcu != 0 && reader.left() >= 8) return false;
        const size_t number = static_cast<size_t>(mcu / interval);
        const uint8_t* bytes = bytes_.data();
        reader = BitReader(bytes + (number == 0 ? 0 : interval_ends_[number - 1]), bytes + interval_ends_[number]);
        for (Component& component : components_) component.last_dc = 0;
      }
      if (!decode_mcu(reader, column)) return false;
    }
    give_row(sink, row);
  }
  return reader.left() < 8;
}

bool Scan::decode_mcu(BitReader& reader, int column) {
  for (Component& component : components_) {
    int16_t* corner = component.blocks.data() + static_cast<size_t>(column) * component.horizontal * kBlock;
    for (int v = 0; v < component.vertical; ++v, corner += component.stride) {
      for (int h = 0; h < component.horizontal; ++h) {
        if (!decode_block(reader, component, corner + h * kBlock)) return false;
      }
    }
  }
  return true;
}

void Scan::give_row(RowSink& sink, int mcu_row) {
  for (const Component& component : components_) {
    for (int v = 0; v < component.vertical; ++v) {
      const int row = mcu_row * component.vertical + v;
      if (row >= component.rows) break;
      sink.row(component.index, row, component.blocks.data() + v * component.stride, component.quantisation);
    }
  }
}

}  // namespace

const uint16_t* quantisation_table(const jpeg_decompress_struct& info, int c) {
  const jpeg_component_info& component = info.comp_info[c];
  if (component.quant_table != nullptr) return component.quant_table->quantval;  // as its scan found it
  if (component.quant_tbl_no < 0 || component.quant_tbl_no >= NUM_QUANT_TBLS) return nullptr;
  const JQUANT_TBL* table = info.quant_tbl_ptrs[component.quant_tbl_no];
  return table == nullptr ? nullptr : table->quantval;
}

bool decode_baseline_scan(const jpeg_decompress_struct& info, RowSink& sink) {
  Scan scan;
  return scan.prepare(info) && scan.decode(sink);
}

}  // namespace jpegdeep
