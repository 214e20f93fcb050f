// libjpeg's coefficient reader, with its block rows handed over one by one.
//
// jpeg_read_coefficients() keeps every coefficient of the image in 'virtual arrays' owned by the library's memory
// manager.  The manager is a public table of function pointers (jpeglib.h, struct jpeg_memory_mgr), so this reader puts
// its own arrays there: a file whose components all come in one scan is decoded into two or so block rows that stay in
// the cache, and only a file of several scans (progressive, or not interleaved) is held whole.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>  // jpeglib.h needs FILE
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <jpeglib.h>

#include "scan.h"

namespace jpegdeep {

struct DecodeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What of a file's damage ends its decoding: what loses part of the picture, any warning of libjpeg's, or none.
enum class Damage { kError, kStrict, kTolerate };

// orientation.Turn: a transposition, and then the upright picture's mirrors.
struct Turn {
  bool transpose, flip_vertical, flip_horizontal;
};

class Decoder {
 public:
  // Reads the markers up to the first scan: ours, or libjpeg where there is anything unusual.  `data` must outlive the
  // decoder.
  Decoder(const uint8_t* data, size_t size, Damage damage);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  int width() const { return header_.width; }
  int height() const { return header_.height; }
  int components() const { return header_.components; }
  int horizontal_sampling(int c) const { return header_.component[c].horizontal; }
  int vertical_sampling(int c) const { return header_.component[c].vertical; }
  int block_rows(int c) const { return header_.component[c].rows; }
  int block_columns(int c) const { return header_.component[c].columns; }
  bool several_scans() const { return several_scans_; }
  // The steps of component c, or null: as its scan found them where that has been decoded.
  const uint16_t* quantisation(int c) const;
  // What libjpeg warned of until now: the first message of each kind, and how many there were of it.
  std::vector<std::pair<std::string, int>> warnings() const;

  // Entropy-decodes everything; can be called once.  The sink may get the first rows twice: see scan.h.  `fast` false
  // leaves everything to libjpeg, which has one thread.
  void decode(RowSink& sink, bool fast, int threads = 1);
  // The same down to pixels, by libjpeg: three bytes of RGB each, the upright picture's rows from the top.  Of CMYK and
  // YCCK files it makes none.
  void decode_pixels(uint8_t* rgb, const Turn& turn);

 private:
  struct Errors {
    jpeg_error_mgr base;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
  };
  struct Warning {
    int code, count;
    char message[JMSG_LENGTH_MAX];
  };
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  // What stands behind libjpeg's jvirt_barray_ptr: one component's blocks, all of them or one MCU row.
  struct BlockArray {
    std::unique_ptr<JBLOCK[], Free> blocks;
    std::unique_ptr<JBLOCKROW[], Free> rows;
    JDIMENSION columns = 0, stored_rows = 0, rows_per_access = 0;
    JDIMENSION pending = 0;  // first row of those handed out last and not yet given to the sink
    bool touched = false;    // handed out at least once
  };

  static void on_error(j_common_ptr info);
  static void on_message(j_common_ptr info, int level);
  static void ignore_output(j_common_ptr) {}
  static jvirt_barray_ptr request_array(j_common_ptr info, int pool, boolean zero, JDIMENSION columns, JDIMENSION rows,
                                        JDIMENSION rows_per_access);
  static void realize_arrays(j_common_ptr info);
  static JBLOCKARRAY access_array(j_common_ptr info, jvirt_barray_ptr token, JDIMENSION start, JDIMENSION count,
                                  boolean writable);

  static void on_progress(j_common_ptr info);

  [[noreturn]] void fail(const char* reason);  // like libjpeg's own errors: only from within its functions
  bool loses_picture(int warning);
  bool zeros_were_decoded(size_t discarded) const;
  bool scans_are_missing() const;
  void start_libjpeg();
  bool read_header();
  bool read_blocks();
  bool read_pixels(uint8_t* rgb, const Turn& turn, uint8_t* strip);
  void bound_work(double blocks);
  void check_components();
  void allocate_arrays();
  void give_rows(int component, JDIMENSION first, JDIMENSION end);

  static constexpr int kMaxWarnings = 16;  // kinds; libjpeg has fewer

  const uint8_t* data_;
  const size_t size_;
  const Damage damage_;
  Header header_;
  bool ordinary_;  // it is from parse_header, and there was nothing unusual
  jpeg_decompress_struct info_{};
  bool started_ = false;  // libjpeg has read the header
  Errors errors_{};
  RowSink* sink_ = nullptr;
  BlockArray arrays_[kMaxComponents];
  int requested_ = 0;
  Warning warnings_[kMaxWarnings];
  int warning_kinds_ = 0;
  bool ended_early_ = false;     // there is no end-of-image marker
  int disordered_scan_ = 0;      // the last scan that broke the order of a progression
  bool resynchronised_ = false;  // a restart marker was missing or had a wrong number, ...
  JDIMENSION resync_row_ = 0;    // ... last in this row of MCUs
  bool several_scans_ = false;
  bool streaming_ = false;
  bool decoded_ = false;
  double blocks_visited_ = 0;
  jpeg_progress_mgr progress_{};
  int last_scan_ = 0;            // on_progress: where it was called last
  JDIMENSION last_row_ = 0;
};

// What jpeg_read_coefficients costs with nothing of ours around it: the yardstick of the measurements.
void bare_read(const uint8_t* data, size_t size);

}  // namespace jpegdeep
