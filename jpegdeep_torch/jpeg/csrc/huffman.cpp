#include "huffman.h"

#include <cstring>

namespace jpegdeep {
namespace {

// One symbol with its number: `bits` of both together, 0 where they are longer than the lookup.
struct Single {
  int16_t value;
  uint8_t run, bits;
  bool end;  // of the block
};

// What stands at the beginning of `next`, of `width` bits.
Single single(const CodeTable& table, unsigned next, int width, bool is_dc) {
  int symbol = 0;
  const int length = table.find(static_cast<uint64_t>(next) << (64 - width), symbol);
  const int size = symbol & 15, run = is_dc ? 0 : symbol >> 4;
  const bool end = !is_dc && size == 0;
  if (length == 0 || length + size > width || (end && run != 0)) return {0, 0, 0, false};
  const unsigned number = (next >> (width - length - size)) & ((1u << size) - 1);
  return {static_cast<int16_t>(extend(number, size)), static_cast<uint8_t>(run),
          static_cast<uint8_t>(length + size), end};
}

// Puts together what stands in an Entry.
struct Collected {
  const unsigned width;
  unsigned bits = 0, count = 0, places[2] = {}, values[2] = {}, advance = 0;

  explicit Collected(int width_in) : width(static_cast<unsigned>(width_in)) {}

  // Whether there may be more.
  bool add(const Single& found) {
    if (found.bits == 0 || bits + found.bits > width || (count == 2 && !found.end)) return false;
    bits += found.bits;
    if (found.end) {
      advance += 128;
      return false;
    }
    places[count] = advance + found.run;
    values[count] = static_cast<uint16_t>(found.value);
    advance = places[count++] + 1;
    return true;
  }

  Entry packed() const {
    if (bits == 0) return static_cast<Entry>(kOneByOne) << 56;
    const int second = count == 2 ? 1 : 0;
    return bits | places[0] << 8 | places[second] << 16 | static_cast<Entry>(values[0]) << 24 |
           static_cast<Entry>(values[second]) << 40 | static_cast<Entry>(advance) << 56;
  }
};

// Entries that begin with one of `begin`, and go on with some of `singles`.
void combine(const Single* begin, const Single* singles, int width, Entry* entries) {
  const unsigned mask = (1u << width) - 1;
  for (unsigned i = 0; i <= mask; ++i) {
    Collected collected(width);
    bool more = collected.add(begin[i]);
    while (more) more = collected.add(singles[(i << collected.bits) & mask]);
    entries[i] = collected.packed();
  }
}

void fill_singles(const CodeTable& table, int width, bool is_dc, Single* singles) {
  for (unsigned i = 0; i < 1u << width; ++i) singles[i] = single(table, i, width, is_dc);
}

// The tables used last: most files have those of T.81, annex K.
struct Kept {
  HuffmanSpec dc, ac;
  std::shared_ptr<const BlockTables> tables;
};
constexpr int kKept = 8;
thread_local Kept kept[kKept];  // and not shared: a process may fork while another thread holds a lock
thread_local int next_kept = 0;

bool same(const HuffmanSpec& a, const HuffmanSpec& b) {
  return std::memcmp(a.counts, b.counts, sizeof a.counts) == 0 &&
         std::memcmp(a.symbols, b.symbols, sizeof a.symbols) == 0;
}

}  // namespace

bool CodeTable::build(const HuffmanSpec& spec, bool is_dc) {
  std::memset(entries_, 0, sizeof entries_);
  std::memcpy(symbols_, spec.symbols, sizeof symbols_);
  uint32_t code = 0, index = 0;
  for (int length = 1; length <= 16; ++length, code <<= 1) {
    first_code_[length] = code;
    first_index_[length] = index;
    if (index + spec.counts[length] > 256) return false;
    for (int i = 0; i < spec.counts[length]; ++i, ++code, ++index) {
      if (is_dc && symbols_[index] > 15) return false;
      if (code + 1 >= (1u << length)) return false;  // too many codes, or the one of all ones, which is reserved
      if (length > kBits) continue;
      const auto entry = static_cast<uint16_t>(length << 8 | symbols_[index]);
      for (uint32_t k = code << (kBits - length); k < (code + 1) << (kBits - length); ++k) entries_[k] = entry;
    }
    limit_[length] = code << (16 - length);
  }
  return true;
}

int CodeTable::find_long(uint64_t bits, int& symbol) const {
  const auto next = static_cast<uint32_t>(bits >> 48);
  for (int length = kBits + 1; length <= 16; ++length) {
    if (next >= limit_[length]) continue;
    symbol = symbols_[(next >> (16 - length)) - first_code_[length] + first_index_[length]];
    return length;
  }
  return 0;
}

void fill_entries(const CodeTable& ac, int bits, Entry* entries) {
  Single singles[1 << kLookupBits];
  fill_singles(ac, bits, false, singles);
  combine(singles, singles, bits, entries);
}

std::shared_ptr<const BlockTables> block_tables(const HuffmanSpec& dc, const HuffmanSpec& ac) {
  for (const Kept& each : kept) {
    if (each.tables && same(each.dc, dc) && same(each.ac, ac)) return each.tables;
  }
  auto made = std::make_shared<BlockTables>();
  if (!made->dc.build(dc, true) || !made->ac.build(ac, false)) return nullptr;
  Single first[1 << kLookupBits], singles[1 << kLookupBits];
  fill_singles(made->dc, kLookupBits, true, first);
  fill_singles(made->ac, kLookupBits, false, singles);
  combine(first, singles, kLookupBits, made->first);
  combine(singles, singles, kLookupBits, made->rest);
  kept[next_kept] = {dc, ac, made};
  next_kept = (next_kept + 1) % kKept;
  return made;
}

}  // namespace jpegdeep
