// Our own entropy decoders, for Huffman-coded files about which there is nothing unusual.
#pragma once

#include "header.h"

namespace jpegdeep {

// Receives decoded block rows; called between libjpeg's own functions, so it must neither throw nor allocate.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // One row of blocks (natural order, not dequantised) and the steps they were quantised with; `row` counts from 0.
  virtual void row(int component, int row, const int16_t* blocks, const uint16_t* quantisation) noexcept = 0;
};

// Decodes a file with this header, giving its rows of blocks to `sink`.
//
// False where anything is not as a sound encoder leaves it: libjpeg then decodes the file from the start, and says what
// is wrong or makes of it what it always did.  So these decoders never have to decide what a damaged file means.  The
// sink may by then have got rows, which it gets again.
bool decode_sequential(const Header& header, const uint8_t* data, size_t size, RowSink& sink);

}  // namespace jpegdeep
