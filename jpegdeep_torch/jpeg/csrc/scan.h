// Our own entropy decoders, for Huffman-coded files about which there is nothing unusual.
#pragma once

#include <memory>

#include "header.h"

namespace jpegdeep {

// Receives decoded block rows; called between libjpeg's own functions, so it must neither throw nor allocate.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // One row of blocks (natural order, not dequantised) and the steps they were quantised with; `row` counts from 0.
  virtual void row(int component, int row, const int16_t* blocks, const uint16_t* quantisation) noexcept = 0;
  // A sink for the rows [first[c], end[c]) of each component c, to be used on a thread of its own beside others for the
  // rest.  It sets `first` back to where it must be given rows from.  Null: only one sink can take all rows.
  virtual std::unique_ptr<RowSink> part(int* first, const int* end);
};

inline std::unique_ptr<RowSink> RowSink::part(int*, const int*) { return nullptr; }

// Decodes a file with this header, giving its rows of blocks to `sink`.
//
// False where anything is not as a sound encoder leaves it: libjpeg then decodes the file from the start, and says what
// is wrong or makes of it what it always did.  So these decoders never have to decide what a damaged file means.  The
// sink may by then have got rows, which it gets again.  Up to `threads` threads decode where there are restart markers.
bool decode_sequential(const Header& header, const uint8_t* data, size_t size, RowSink& sink, int threads);
bool decode_progressive(const Header& header, const uint8_t* data, size_t size, RowSink& sink);

// A progressive file may go through the whole image again in every scan, for a few bytes each: bounded here to what
// about a second decodes, and to what the bytes of a large file warrant.  Ordinary files have some 10 scans.
constexpr int kMaxScans = 500;
inline double most_blocks_visited(size_t file_size) { return 24e6 + 4 * static_cast<double>(file_size); }

}  // namespace jpegdeep
