// Lookup tables of Huffman codes: what the next bits begin with, as many coefficients at once as fit in.
#pragma once

#include <memory>

#include "header.h"

namespace jpegdeep {

constexpr int kLookupBits = 10;  // four tables then fit into a cache of 32 KB: longer ones are slower

// The number that `size` bits stand for (T.81, F.2.2.1, EXTEND); 0 of 0 bits.
inline int extend(unsigned bits, int size) {
  return bits < (1u << size >> 1) ? static_cast<int>(bits) - (1 << size) + 1 : static_cast<int>(bits);
}

// One code at a time: its length and symbol.
class CodeTable {
 public:
  // False for a table that libjpeg would not take either.  `is_dc`: symbols are sizes, without a run.
  bool build(const HuffmanSpec& spec, bool is_dc);

  // The length of the code that `bits` begin with from their top, or 0 where there is none.
  int find(uint64_t bits, int& symbol) const {
    const uint16_t entry = entries_[bits >> (64 - kBits)];
    if (entry != 0) {
      symbol = entry & 255;
      return entry >> 8;
    }
    return find_long(bits, symbol);
  }

 private:
  static constexpr int kBits = 9;
  int find_long(uint64_t bits, int& symbol) const;

  uint16_t entries_[1 << kBits];  // 256 * length + symbol; 0 for longer codes
  uint32_t limit_[17], first_code_[17], first_index_[17];  // by code length; limits are aligned to 16 bits
  uint8_t symbols_[256];
};

// What the next bits hold: up to two coefficients, and the end of the block.
//
// From the low end: 8 bits, how many bits are consumed; 8 and 8, how far from here the two coefficients are; 16 and 16,
// their values; 8, how far from here the next one is, its top bit set at the end of a block.  An entry with one
// coefficient has it twice; the end of a block alone has a zero, where nothing else will be.  kOneByOne as the last
// field: a code or a number does not fit in.
typedef uint64_t Entry;
constexpr unsigned kOneByOne = 64;

inline unsigned entry_bits(Entry e) { return e & 63; }
inline unsigned entry_advance(Entry e) { return static_cast<unsigned>(e >> 56); }
inline unsigned entry_place(Entry e) { return e >> 8 & 255; }
inline unsigned entry_second_place(Entry e) { return e >> 16 & 255; }
inline int16_t entry_value(Entry e) { return static_cast<int16_t>(e >> 24); }
inline int16_t entry_second_value(Entry e) { return static_cast<int16_t>(e >> 40); }

// The entries of a lookup of `bits` <= kLookupBits bits of AC coefficients.
void fill_entries(const CodeTable& ac, int bits, Entry* entries);

// The tables of one component in a sequential scan.
struct BlockTables {
  Entry first[1 << kLookupBits];  // at the beginning of a block: the difference of the DC, and the coefficient after it
  Entry rest[1 << kLookupBits];
  CodeTable dc, ac;
};

// Null for tables that libjpeg would not take either.  A thread keeps those that it used last.
std::shared_ptr<const BlockTables> block_tables(const HuffmanSpec& dc, const HuffmanSpec& ac);

}  // namespace jpegdeep
