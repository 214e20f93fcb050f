// What a JPEG's markers say up to its first scan, of files about which there is nothing unusual.
//
// Whatever is unusual, libjpeg and markers.py judge: they read the same bytes again, and have the words for it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jpegdeep {

constexpr int kMaxComponents = 4;
constexpr int kBlock = 64;  // coefficients

// ITU-T T.81, figure A.6: the natural index of each coefficient in the order of the file.
extern const uint8_t kNaturalOrder[kBlock];

// A Huffman table as a file gives it (T.81, B.2.4.2).
struct HuffmanSpec {
  uint8_t counts[17];    // of codes, by their length; the first is not used
  uint8_t symbols[256];  // in the order of the codes
  bool defined;
};

struct FrameComponent {
  int id, horizontal, vertical, table;  // sampling factors; the quantisation table's number
  int columns, rows;                    // of blocks; those that fill up the last MCUs are left out
};

// A scan's header (T.81, B.2.3).
struct ScanHeader {
  int components;
  int component[kMaxComponents], dc_table[kMaxComponents], ac_table[kMaxComponents];  // indices in the frame; tables
  int first, last;    // frequencies, in the order of the file
  int high, low;      // bits: those before this scan, and the lowest of this one
  size_t data_start;  // in the file
};

struct Header {
  int width, height, components;
  bool progressive;
  FrameComponent component[kMaxComponents];
  int largest_horizontal, largest_vertical;
  bool jfif;
  int adobe;                        // the transform of an Adobe segment, or -1
  size_t exif_start, exif_end;      // the body of the first EXIF segment; both 0 where there is none
  uint16_t quantisation[4][kBlock]; // in natural order
  bool quantisation_defined[4];
  HuffmanSpec dc[4], ac[4];
  int restart_interval;             // in MCUs; 0: there are no restart markers
  bool restarts_follow;             // whether the next marker is a restart marker
  ScanHeader scan;                  // the first, or after parse_next_scan another

  bool several_scans() const { return progressive || scan.components != components; }
};

// False where there is anything unusual, or that only libjpeg reads: the header then holds nothing of use.
bool parse_header(const uint8_t* data, size_t size, Header& header);

// For scans after the first: takes Huffman tables and restart intervals from the segments between `at` and the next
// scan's header, which it leaves `at` behind.  1: there is one; 0: the end of the image; -1: anything else.
int parse_next_scan(const uint8_t* data, size_t size, size_t at, Header& header);

}  // namespace jpegdeep
