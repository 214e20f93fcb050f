// A Huffman decoder for the ordinary case: one sequential scan with all components in it, and nothing wrong with it.
#pragma once

#include "decoder.h"

namespace jpegdeep {

// Decodes the scan that `info` stands before (jpeg_read_header has returned), giving its rows of blocks to `sink`.
//
// False where the file is not of this kind, or anything about the scan is not as it should be: libjpeg then decodes it
// from the start, and says what is wrong or makes of it what it always did.  So this decoder never has to decide what
// a damaged file means.  `info` is not changed.
bool decode_baseline_scan(const jpeg_decompress_struct& info, RowSink& sink);

// The steps of component c as they stand at the first scan, or null.
const uint16_t* quantisation_table(const jpeg_decompress_struct& info, int c);

}  // namespace jpegdeep
