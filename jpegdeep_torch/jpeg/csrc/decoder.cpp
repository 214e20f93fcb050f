#include "decoder.h"

#include <cstdlib>
#include <cstring>

#include "scan.h"

namespace jpegdeep {
namespace {

// A progressive file may go through the whole image again in every scan, for a few bytes each: bounded here to what
// about a second decodes.  Ordinary files have some 10 scans.
constexpr int kMaxScans = 500;
constexpr double kMaxBlocksVisited = 24e6;

Decoder* owner(j_common_ptr info) { return static_cast<Decoder*>(info->client_data); }

}  // namespace

void Decoder::on_error(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  (*info->err->format_message)(info, errors->message);
  std::longjmp(errors->jump, 1);
}

void Decoder::on_message(j_common_ptr info, int level) {
  if (level >= 0) return;  // a trace, not a warning
  info->err->num_warnings++;
  if (!reinterpret_cast<Errors*>(info->err)->tolerate_warnings) on_error(info);
}

void Decoder::fail(const char* reason) {
  std::snprintf(errors_.message, sizeof errors_.message, "%s", reason);
  std::longjmp(errors_.jump, 1);
}

Decoder::Decoder(const uint8_t* data, size_t size, const Limits& limits) {
  if (size == 0) throw DecodeError("the file is empty");
  if (size < 4 || data[0] != 0xFF || data[1] != 0xD8) throw DecodeError("not a JPEG: it does not start with FF D8");
  info_.err = jpeg_std_error(&errors_.base);
  errors_.base.error_exit = on_error;
  errors_.base.emit_message = on_message;
  errors_.base.output_message = ignore_output;
  errors_.tolerate_warnings = limits.tolerate_warnings;
  info_.client_data = this;
  try {
    if (!read_header(data, size)) throw DecodeError(errors_.message);
    check_header(size, limits);
  } catch (...) {
    jpeg_destroy_decompress(&info_);
    throw;
  }
}

Decoder::~Decoder() { jpeg_destroy_decompress(&info_); }

// The functions with a setjmp have no object with a destructor in them: longjmp would pass it by.
bool Decoder::read_header(const uint8_t* data, size_t size) {
  if (setjmp(errors_.jump)) return false;
  jpeg_create_decompress(&info_);
  jpeg_mem_src(&info_, data, static_cast<unsigned long>(size));
  jpeg_read_header(&info_, TRUE);
  return true;
}

void Decoder::check_header(size_t size, const Limits& limits) const {
  if (info_.data_precision != 8) {
    throw DecodeError(std::to_string(info_.data_precision) + " bits per sample; only 8 are supported");
  }
  switch (info_.jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_YCbCr:
      break;
    case JCS_RGB:
      throw DecodeError("its components are RGB, not YCbCr, so they are not the planes that the networks take");
    case JCS_CMYK:
    case JCS_YCCK:
      throw DecodeError("a CMYK or YCCK JPEG (4 components); only grayscale and YCbCr are supported");
    default:
      throw DecodeError(std::to_string(info_.num_components) + " components; only 1 (gray) and 3 (YCbCr) are supported");
  }
  const double pixels = static_cast<double>(info_.image_width) * info_.image_height;
  if (pixels > limits.max_pixels) {
    throw DecodeError(std::to_string(width()) + " x " + std::to_string(height()) + " pixels, more than the limit of " +
                      std::to_string(static_cast<long long>(limits.max_pixels)));
  }
  // A Huffman-coded block takes at least one bit, for its DC: what a header merely promises is not allocated.
  double blocks = 0;
  for (int c = 0; c < components(); ++c) blocks += static_cast<double>(block_rows(c)) * block_columns(c);
  if (!info_.arith_code && 8.0 * static_cast<double>(size) < blocks) {
    throw DecodeError(std::to_string(size) + " bytes are too few for an image of " + std::to_string(width()) + " x " +
                      std::to_string(height()) + " pixels");
  }
}

const uint16_t* Decoder::quantisation(int c) const { return quantisation_table(info_, c); }

void Decoder::decode(RowSink& sink, bool fast) {
  if (decoded_) throw DecodeError("already decoded: a decoder reads its file once");
  decoded_ = true;
  if (fast && decode_baseline_scan(info_, sink)) return;
  sink_ = &sink;
  streaming_ = !jpeg_has_multiple_scans(&info_);
  info_.mem->request_virt_barray = request_array;
  info_.mem->realize_virt_arrays = realize_arrays;
  info_.mem->access_virt_barray = access_array;
  if (!read_blocks()) throw DecodeError(errors_.message);
}

bool Decoder::read_blocks() {
  if (setjmp(errors_.jump)) return false;
  jpeg_read_coefficients(&info_);
  for (int c = 0; c < components(); ++c) {
    BlockArray& array = arrays_[c];
    if (info_.comp_info[c].quant_table == nullptr || !array.touched) {
      fail("a component has no scan: the file is cut short");
    }
    if (streaming_) {
      give_rows(c, array.pending, array.pending + array.rows_per_access);
    } else {
      give_rows(c, 0, array.stored_rows);
    }
  }
  return true;
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
  self->blocks_visited_ += static_cast<double>(count) * array->columns;
  if (self->blocks_visited_ > kMaxBlocksVisited || self->info_.input_scan_number > kMaxScans) {
    self->fail("too many scans over too many blocks");
  }
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
