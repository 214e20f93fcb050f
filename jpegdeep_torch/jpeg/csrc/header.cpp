#include "header.h"

#include <algorithm>
#include <cstring>

namespace jpegdeep {

const uint8_t kNaturalOrder[kBlock] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

namespace {

constexpr int kMaxSide = 65500;       // libjpeg's JPEG_MAX_DIMENSION
constexpr int kMaxBlocksInMcu = 10;   // T.81, B.2.3

enum Marker : uint8_t {
  kSof0 = 0xC0, kSof1 = 0xC1, kSof2 = 0xC2, kDht = 0xC4, kRst0 = 0xD0, kSoi = 0xD8, kEoi = 0xD9, kSos = 0xDA,
  kDqt = 0xDB, kDri = 0xDD, kApp0 = 0xE0, kApp1 = 0xE1, kApp14 = 0xEE, kApp15 = 0xEF, kCom = 0xFE
};

inline int two_bytes(const uint8_t* at) { return at[0] << 8 | at[1]; }
inline int ceil_divide(int a, int b) { return (a + b - 1) / b; }

// A marker segment's body.
struct Segment {
  const uint8_t* body;
  int length;
};

bool parse_frame(Segment segment, Header& header) {
  if (segment.length < 6 || segment.body[0] != 8) return false;
  header.height = two_bytes(segment.body + 1);
  header.width = two_bytes(segment.body + 3);
  header.components = segment.body[5];
  if ((header.components != 1 && header.components != 3) || segment.length != 6 + 3 * header.components) return false;
  if (header.height < 1 || header.width < 1 || header.height > kMaxSide || header.width > kMaxSide) return false;
  header.largest_horizontal = header.largest_vertical = 1;
  for (int c = 0; c < header.components; ++c) {
    const uint8_t* given = segment.body + 6 + 3 * c;
    FrameComponent& component = header.component[c];
    component = {given[0], given[1] >> 4, given[1] & 15, given[2], 0, 0};
    if (component.horizontal < 1 || component.horizontal > 4 || component.vertical < 1 || component.vertical > 4) {
      return false;
    }
    if (component.table > 3) return false;
    for (int other = 0; other < c; ++other) {
      if (header.component[other].id == component.id) return false;
    }
    header.largest_horizontal = std::max(header.largest_horizontal, component.horizontal);
    header.largest_vertical = std::max(header.largest_vertical, component.vertical);
  }
  const auto usual = [](int largest, int own) { return own == largest || 2 * own == largest || 4 * own == largest; };
  for (int c = 0; c < header.components; ++c) {
    FrameComponent& component = header.component[c];
    if (!usual(header.largest_horizontal, component.horizontal) ||
        !usual(header.largest_vertical, component.vertical)) {
      return false;
    }
    component.columns = ceil_divide(header.width * component.horizontal, 8 * header.largest_horizontal);
    component.rows = ceil_divide(header.height * component.vertical, 8 * header.largest_vertical);
  }
  return true;
}

bool parse_huffman(Segment segment, Header& header) {
  while (segment.length > 0) {
    if (segment.length < 17) return false;
    const int number = segment.body[0] & 15, kind = segment.body[0] >> 4;
    if (number > 3 || kind > 1) return false;
    HuffmanSpec& spec = (kind == 0 ? header.dc : header.ac)[number];
    std::memcpy(spec.counts, segment.body, 17);
    spec.counts[0] = 0;
    int count = 0;
    for (int length = 1; length <= 16; ++length) count += spec.counts[length];
    if (count > 256 || segment.length < 17 + count) return false;
    std::memset(spec.symbols, 0, sizeof spec.symbols);
    std::memcpy(spec.symbols, segment.body + 17, static_cast<size_t>(count));
    spec.defined = true;
    segment.body += 17 + count;
    segment.length -= 17 + count;
  }
  return true;
}

bool parse_quantisation(Segment segment, Header& header) {
  while (segment.length > 0) {
    const int number = segment.body[0] & 15, wide = segment.body[0] >> 4;
    if (number > 3 || wide > 1 || segment.length < 1 + kBlock * (1 + wide)) return false;
    for (int i = 0; i < kBlock; ++i) {
      header.quantisation[number][kNaturalOrder[i]] = static_cast<uint16_t>(
          wide ? two_bytes(segment.body + 1 + 2 * i) : segment.body[1 + i]);
    }
    header.quantisation_defined[number] = true;
    segment.body += 1 + kBlock * (1 + wide);
    segment.length -= 1 + kBlock * (1 + wide);
  }
  return true;
}

bool parse_scan(Segment segment, size_t data_start, Header& header) {
  ScanHeader& scan = header.scan;
  if (segment.length < 1) return false;
  scan.components = segment.body[0];
  if (scan.components < 1 || scan.components > header.components || segment.length != 4 + 2 * scan.components) {
    return false;
  }
  int blocks = 0, before = -1;
  for (int i = 0; i < scan.components; ++i) {
    const uint8_t* given = segment.body + 1 + 2 * i;
    int c = 0;
    while (c < header.components && header.component[c].id != given[0]) ++c;
    if (c == header.components || c <= before) return false;  // T.81: in the order of the frame
    before = c;
    scan.component[i] = c;
    scan.dc_table[i] = given[1] >> 4;
    scan.ac_table[i] = given[1] & 15;
    if (scan.dc_table[i] > 3 || scan.ac_table[i] > 3) return false;
    blocks += header.component[c].horizontal * header.component[c].vertical;
  }
  const uint8_t* rest = segment.body + 1 + 2 * scan.components;
  scan.first = rest[0];
  scan.last = rest[1];
  scan.high = rest[2] >> 4;
  scan.low = rest[2] & 15;
  scan.data_start = data_start;
  return scan.components == 1 || blocks <= kMaxBlocksInMcu;
}

// Whether the Adobe segment is one of which libjpeg knows what it means.
bool parse_adobe(Segment segment, Header& header) {
  if (segment.length < 12 || std::memcmp(segment.body, "Adobe", 5) != 0) return true;
  header.adobe = segment.body[11];
  return header.adobe <= 1;
}

bool parse_jfif(Segment segment, Header& header) {
  if (segment.length < 14 || std::memcmp(segment.body, "JFIF", 5) != 0) return true;
  header.jfif = true;
  return segment.body[5] == 1;
}

// What may stand before any scan.
bool parse_tables(uint8_t marker, Segment segment, Header& header) {
  if (marker == kDht) return parse_huffman(segment, header);
  if (marker == kDri) {
    if (segment.length != 2) return false;
    header.restart_interval = two_bytes(segment.body);
    return true;
  }
  return marker == kCom || (marker >= kApp0 && marker <= kApp15);
}

// The marker at `at`, 0 where there is none, and the segment behind it; leaves `at` behind that.
uint8_t next_segment(const uint8_t* data, size_t size, size_t& at, Segment& segment) {
  if (size - at < 2 || data[at] != 0xFF) return 0;
  const uint8_t marker = data[at + 1];
  if (marker < kSof0 || (marker >= kRst0 && marker <= kSoi)) return 0;
  if (marker == kEoi) return marker;
  if (size - at < 4) return 0;
  const int length = two_bytes(data + at + 2);
  if (length < 2 || static_cast<size_t>(length) > size - at - 2) return 0;
  segment = {data + at + 4, length - 2};
  at += 2 + static_cast<size_t>(length);
  return marker;
}

// Whether the first marker in entropy-coded data is a restart marker.
bool restarts_follow(const uint8_t* data, size_t size, size_t at) {
  while (at + 1 < size) {
    const void* found = std::memchr(data + at, 0xFF, size - at - 1);
    if (found == nullptr) return false;
    at = static_cast<size_t>(static_cast<const uint8_t*>(found) - data) + 1;
    if (data[at] != 0 && data[at] != 0xFF) return data[at] >= kRst0 && data[at] < kSoi;
  }
  return false;
}

}  // namespace

bool parse_header(const uint8_t* data, size_t size, Header& header) {
  if (size < 4 || data[0] != 0xFF || data[1] != kSoi) return false;
  std::memset(&header, 0, sizeof header);
  header.adobe = -1;
  Segment segment{};
  for (size_t at = 2;;) {
    const uint8_t marker = next_segment(data, size, at, segment);
    bool taken = true;
    switch (marker) {
      case kSof0: case kSof1: case kSof2:
        taken = header.components == 0 && parse_frame(segment, header);
        header.progressive = marker == kSof2;
        break;
      case kDqt: taken = parse_quantisation(segment, header); break;
      case kApp0: taken = parse_jfif(segment, header); break;
      case kApp14: taken = parse_adobe(segment, header); break;
      case kApp1:
        if (header.exif_end == 0 && segment.length >= 6 && std::memcmp(segment.body, "Exif\0", 6) == 0) {
          header.exif_start = static_cast<size_t>(segment.body - data);
          header.exif_end = at;
        }
        break;
      case kSos:
        if (header.components == 0 || !parse_scan(segment, at, header)) return false;
        header.restarts_follow = header.restart_interval != 0 && restarts_follow(data, size, at);
        return header.progressive || (header.scan.first == 0 && header.scan.last == kBlock - 1 &&
                                      header.scan.high == 0 && header.scan.low == 0);
      default: taken = parse_tables(marker, segment, header);
    }
    if (!taken) return false;
  }
}

int parse_next_scan(const uint8_t* data, size_t size, size_t at, Header& header) {
  Segment segment{};
  for (;;) {
    const uint8_t marker = next_segment(data, size, at, segment);
    if (marker == kEoi) return 0;
    if (marker == kSos) return parse_scan(segment, at, header) ? 1 : -1;
    // libjpeg looks into these two wherever they are.
    if (marker == kApp0 || marker == kApp14 || !parse_tables(marker, segment, header)) return -1;
  }
}

}  // namespace jpegdeep
