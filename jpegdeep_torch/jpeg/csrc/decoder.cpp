#include "decoder.h"

#include <cstdlib>
#include <cstring>

#include <jerror.h>

namespace jpegdeep {
namespace {

constexpr int kStripRows = 64;  // of pixels that are turned at a time

// Writes `count` stored rows from `first` on to their places in the upright picture.
void place_strip(const uint8_t* strip, int first, int count, int height, int width, const Turn& turn, uint8_t* rgb) {
  const size_t row_bytes = 3 * static_cast<size_t>(width);
  if (!turn.transpose) {
    for (int i = 0; i < count; ++i) {
      const int row = turn.flip_vertical ? height - 1 - first - i : first + i;
      const uint8_t* from = strip + row_bytes * i;
      uint8_t* to = rgb + row_bytes * row;
      if (!turn.flip_horizontal) {
        std::memcpy(to, from, row_bytes);
        continue;
      }
      for (int x = width - 1; x >= 0; --x, to += 3) std::memcpy(to, from + 3 * x, 3);
    }
    return;
  }
  for (int x = 0; x < width; ++x) {
    const int row = turn.flip_vertical ? width - 1 - x : x;
    uint8_t* line = rgb + 3 * static_cast<size_t>(height) * row;
    for (int i = 0; i < count; ++i) {
      const int column = turn.flip_horizontal ? height - 1 - first - i : first + i;
      std::memcpy(line + 3 * static_cast<size_t>(column), strip + row_bytes * i + 3 * static_cast<size_t>(x), 3);
    }
  }
}

Decoder* owner(j_common_ptr info) { return static_cast<Decoder*>(info->client_data); }

}  // namespace

void Decoder::on_error(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  (*info->err->format_message)(info, errors->message);
  std::longjmp(errors->jump, 1);
}

void Decoder::on_message(j_common_ptr info, int level) {
  if (level >= 0) return;  // a trace, not a warning
  Decoder* self = owner(info);
  info->err->num_warnings++;
  const int code = info->err->msg_code;
  int kind = 0;
  while (kind < self->warning_kinds_ && self->warnings_[kind].code != code) ++kind;
  if (kind < kMaxWarnings) {
    Warning& warning = self->warnings_[kind];
    if (kind == self->warning_kinds_) {
      ++self->warning_kinds_;
      warning.code = code;
      warning.count = 0;
      (*info->err->format_message)(info, warning.message);
    }
    ++warning.count;
  }
  const bool loses = self->loses_picture(code);
  if (self->damage_ == Damage::kStrict || (loses && self->damage_ == Damage::kError)) on_error(info);
}

// Whether a warning says that part of the picture is not there, or not as it was.
bool Decoder::loses_picture(int warning) {
  const bool disordered = disordered_scan_ == info_.input_scan_number;  // its codes mean something else than it says
  switch (warning) {
    case JWRN_BOGUS_PROGRESSION:
      disordered_scan_ = info_.input_scan_number;
      return false;
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
      return !disordered;
    case JWRN_JPEG_EOF:
      // A missing marker, and nothing else unless data are missed later.  An arithmetic decoder does not say so.
      ended_early_ = true;
      return info_.arith_code;
    case JWRN_EXTRANEOUS_DATA:
      return ended_early_ && zeros_were_decoded(static_cast<size_t>(info_.err->msg_parm.i[0]));
    case JWRN_MUST_RESYNC:
      resynchronised_ = true;
      resync_row_ = info_.input_iMCU_row;
      return false;
    case JWRN_HIT_MARKER: {
      if (ended_early_) return true;
      if (disordered) return false;
      // libjpeg leaves an interval out whose restart marker is missing: that one marker is what is wrong.
      const bool restart = info_.unread_marker >= JPEG_RST0 && info_.unread_marker < JPEG_RST0 + 8;
      const JDIMENSION rows = info_.restart_interval / (info_.MCUs_per_row > 0 ? info_.MCUs_per_row : 1) + 1;
      const bool known = restart && resynchronised_ && info_.input_iMCU_row <= resync_row_ + rows;
      resynchronised_ = false;
      return !known;
    }
    default:
      return false;
  }
}

// Of a file without an end: whether the zeros at its end were taken for data.  `discarded`: bytes that nothing needed.
bool Decoder::zeros_were_decoded(size_t discarded) const {
  constexpr size_t kReadAhead = 16;  // the entropy decoder's buffer
  size_t zeros = 0;
  while (zeros < size_ && data_[size_ - 1 - zeros] == 0) ++zeros;
  return zeros > discarded + kReadAhead;
}

bool Decoder::scans_are_missing() const {
  if (!ended_early_ || info_.coef_bits == nullptr) return false;
  for (int c = 0; c < components(); ++c) {
    for (int k = 0; k < kBlock; ++k) {
      if (info_.coef_bits[c][k] != 0) return true;
    }
  }
  return false;
}

std::vector<std::pair<std::string, int>> Decoder::warnings() const {
  std::vector<std::pair<std::string, int>> result;
  for (int i = 0; i < warning_kinds_; ++i) result.emplace_back(warnings_[i].message, warnings_[i].count);
  return result;
}

void Decoder::fail(const char* reason) {
  std::snprintf(errors_.message, sizeof errors_.message, "%s", reason);
  std::longjmp(errors_.jump, 1);
}

Decoder::Decoder(const uint8_t* data, size_t size, Damage damage) : data_(data), size_(size), damage_(damage) {
  ordinary_ = parse_header(data, size, header_);
  if (ordinary_) {
    several_scans_ = header_.several_scans();
  } else {
    start_libjpeg();
  }
}

Decoder::~Decoder() {
  if (started_) jpeg_destroy_decompress(&info_);
}

// Reads the header by libjpeg, and takes what it says.
void Decoder::start_libjpeg() {
  info_.err = jpeg_std_error(&errors_.base);
  errors_.base.error_exit = on_error;
  errors_.base.emit_message = on_message;
  errors_.base.output_message = ignore_output;
  info_.client_data = this;
  try {
    if (!read_header()) throw DecodeError(errors_.message);
    if (info_.num_components > kMaxComponents) {
      throw DecodeError(std::to_string(info_.num_components) + " components, at most 4 are read");
    }
  } catch (...) {
    jpeg_destroy_decompress(&info_);
    throw;
  }
  started_ = true;
  header_.width = static_cast<int>(info_.image_width);
  header_.height = static_cast<int>(info_.image_height);
  header_.components = info_.num_components;
  for (int c = 0; c < info_.num_components; ++c) {
    const jpeg_component_info& component = info_.comp_info[c];
    header_.component[c] = {component.component_id, component.h_samp_factor, component.v_samp_factor,
                            component.quant_tbl_no, static_cast<int>(component.width_in_blocks),
                            static_cast<int>(component.height_in_blocks)};
  }
  several_scans_ = jpeg_has_multiple_scans(&info_);
}

// The functions with a setjmp have no object with a destructor in them: longjmp would pass it by.
bool Decoder::read_header() {
  if (setjmp(errors_.jump)) return false;
  jpeg_create_decompress(&info_);
  jpeg_mem_src(&info_, data_, static_cast<unsigned long>(size_));
  jpeg_read_header(&info_, TRUE);
  return true;
}

const uint16_t* Decoder::quantisation(int c) const {
  if (!started_) {
    const int table = header_.component[c].table;
    return header_.quantisation_defined[table] ? header_.quantisation[table] : nullptr;
  }
  const jpeg_component_info& component = info_.comp_info[c];
  if (component.quant_table != nullptr) return component.quant_table->quantval;
  if (component.quant_tbl_no < 0 || component.quant_tbl_no >= NUM_QUANT_TBLS) return nullptr;
  const JQUANT_TBL* table = info_.quant_tbl_ptrs[component.quant_tbl_no];
  return table == nullptr ? nullptr : table->quantval;
}

void Decoder::decode(RowSink& sink, bool fast, int threads) {
  if (decoded_) throw DecodeError("already decoded: a decoder reads its file once");
  decoded_ = true;
  if (fast && ordinary_) {
    const bool decoded = header_.progressive ? decode_progressive(header_, data_, size_, sink)
                                             : decode_sequential(header_, data_, size_, sink, threads);
    if (decoded) return;
  }
  if (!started_) start_libjpeg();
  sink_ = &sink;
  streaming_ = !several_scans_;
  info_.mem->request_virt_barray = request_array;
  info_.mem->realize_virt_arrays = realize_arrays;
  info_.mem->access_virt_barray = access_array;
  if (!read_blocks()) throw DecodeError(errors_.message);
}

bool Decoder::read_blocks() {
  if (setjmp(errors_.jump)) return false;
  jpeg_read_coefficients(&info_);
  check_components();
  for (int c = 0; c < components(); ++c) {
    BlockArray& array = arrays_[c];
    if (streaming_) {
      give_rows(c, array.pending, array.pending + array.rows_per_access);
    } else {
      give_rows(c, 0, array.stored_rows);
    }
  }
  return true;
}

// When all scans have been read: whether something came of all components.
void Decoder::check_components() {
  const bool strict = damage_ != Damage::kTolerate;
  if (strict && scans_are_missing()) fail("Premature end of JPEG file: scans are missing");
  for (int c = 0; c < components(); ++c) {
    if (quantisation(c) == nullptr || (strict && info_.comp_info[c].quant_table == nullptr)) {
      fail("a component has no scan: the file is cut short");
    }
  }
}

void Decoder::decode_pixels(uint8_t* rgb, const Turn& turn) {
  if (decoded_) throw DecodeError("already decoded: a decoder reads its file once");
  decoded_ = true;
  if (!started_) start_libjpeg();
  std::vector<uint8_t> strip(static_cast<size_t>(kStripRows) * 3 * static_cast<size_t>(width()));
  if (!read_pixels(rgb, turn, strip.data())) throw DecodeError(errors_.message);
}

bool Decoder::read_pixels(uint8_t* rgb, const Turn& turn, uint8_t* strip) {
  if (setjmp(errors_.jump)) return false;
  progress_.progress_monitor = on_progress;
  if (several_scans_) info_.progress = &progress_;
  info_.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info_);
  const size_t row_bytes = 3 * static_cast<size_t>(info_.output_width);
  const int height = static_cast<int>(info_.output_height), width = static_cast<int>(info_.output_width);
  for (int first = 0; first < height; first += kStripRows) {
    const int count = height - first < kStripRows ? height - first : kStripRows;
    for (int i = 0; i < count; ++i) {
      JSAMPROW row = strip + row_bytes * i;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    place_strip(strip, first, count, height, width, turn, rgb);
  }
  jpeg_finish_decompress(&info_);
  check_components();
  return true;
}

// Called before each row of MCUs of each scan, and sometimes besides.
void Decoder::on_progress(j_common_ptr info) {
  Decoder* self = owner(info);
  const jpeg_decompress_struct& state = self->info_;
  if (state.input_scan_number == self->last_scan_ && state.input_iMCU_row == self->last_row_) return;
  self->last_scan_ = state.input_scan_number;
  self->last_row_ = state.input_iMCU_row;
  double blocks = 0;
  for (int i = 0; i < state.comps_in_scan; ++i) {
    const jpeg_component_info& component = *state.cur_comp_info[i];
    blocks += static_cast<double>(component.v_samp_factor) * component.width_in_blocks;
  }
  self->bound_work(blocks);
}

void Decoder::bound_work(double blocks) {
  blocks_visited_ += blocks;
  if (blocks_visited_ > most_blocks_visited(size_) || info_.input_scan_number > kMaxScans) {
    fail("too many scans over too many blocks");
  }
}

jvirt_barray_ptr Decoder::request_array(j_common_ptr info, int, boolean, JDIMENSION columns, JDIMENSION rows,
                                        JDIMENSION) {
  Decoder* self = owner(info);
  if (self->requested_ == self->components()) self->fail("more planes asked for than the file has components");
  const int c = self->requested_++;  // jdcoefct.c asks in the order of the components
  BlockArray& array = self->arrays_[c];
  array.columns = columns;
  // An MCU row is as high as the component's vertical sampling factor, and is what is asked for at a time.
  array.rows_per_access = static_cast<JDIMENSION>(self->vertical_sampling(c));
  array.stored_rows = self->streaming_ ? array.rows_per_access : rows;
  return reinterpret_cast<jvirt_barray_ptr>(&array);
}

void Decoder::realize_arrays(j_common_ptr info) { owner(info)->allocate_arrays(); }

void Decoder::allocate_arrays() {
  for (int c = 0; c < requested_; ++c) {
    BlockArray& array = arrays_[c];
    const size_t count = static_cast<size_t>(array.columns) * array.stored_rows;
    array.blocks.reset(static_cast<JBLOCK*>(std::calloc(count, sizeof(JBLOCK))));
    array.rows.reset(static_cast<JBLOCKROW*>(std::calloc(array.stored_rows, sizeof(JBLOCKROW))));
    if (!array.blocks || !array.rows) fail("out of memory");
    for (JDIMENSION r = 0; r < array.stored_rows; ++r) {
      array.rows[r] = array.blocks.get() + static_cast<size_t>(r) * array.columns;
    }
  }
}

JBLOCKARRAY Decoder::access_array(j_common_ptr info, jvirt_barray_ptr token, JDIMENSION start, JDIMENSION count,
                                  boolean) {
  Decoder* self = owner(info);
  auto* array = reinterpret_cast<BlockArray*>(token);
  self->bound_work(static_cast<double>(count) * array->columns);
  if (!self->streaming_) {
    array->touched = true;
    if (start + count > array->stored_rows) self->fail("block rows beyond the end of the image");
    return array->rows.get() + start;
  }
  if (count > array->stored_rows) self->fail("block rows beyond the end of the image");
  if (array->touched) {
    self->give_rows(static_cast<int>(array - self->arrays_), array->pending, array->pending + array->rows_per_access);
    std::memset(array->blocks.get(), 0, sizeof(JBLOCK) * array->columns * array->stored_rows);
  }
  array->touched = true;
  array->pending = start;
  return array->rows.get();
}

void Decoder::give_rows(int component, JDIMENSION first, JDIMENSION end) {
  const JDIMENSION rows = info_.comp_info[component].height_in_blocks;
  const BlockArray& array = arrays_[component];
  for (JDIMENSION r = first; r < end && r < rows; ++r) {
    const JBLOCKROW blocks = array.rows[streaming_ ? r - first : r];
    sink_->row(component, static_cast<int>(r), blocks[0], quantisation(component));
  }
}

void bare_read(const uint8_t* data, size_t size) {
  struct Errors { jpeg_error_mgr base; jmp_buf jump; } errors;
  jpeg_decompress_struct info;
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = [](j_common_ptr common) { std::longjmp(reinterpret_cast<Errors*>(common->err)->jump, 1); };
  errors.base.output_message = [](j_common_ptr) {};
  if (setjmp(errors.jump)) {
    jpeg_destroy_decompress(&info);
    throw DecodeError("jpeg_read_coefficients failed");
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, data, static_cast<unsigned long>(size));
  jpeg_read_header(&info, TRUE);
  jpeg_read_coefficients(&info);
  jpeg_destroy_decompress(&info);
}

}  // namespace jpegdeep
