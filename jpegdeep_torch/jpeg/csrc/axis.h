// The matrices of axes.py, built here because random crops need new ones for every image.
#pragma once

#include <vector>

#include "kernels.h"

namespace jpegdeep {

// axes.FILTERS.
enum class Filter { kTwoNearest, kTriangle, kCubic, kLanczos, kBox };

// axes.Axis, field by field.
struct Axis {
  int image_px, ratio, start_px, stop_px, place_px, before_px, canvas_px;
  bool smooth, flip, halve, repeat_pixels;
  Filter filter;

  int samples() const { return halve ? (canvas_px + 1) / 2 : canvas_px; }
  int output_blocks() const { return (samples() + 7) / 8; }
  int input_blocks() const { return (image_px + 8 * ratio - 1) / (8 * ratio); }
};

// axes.axis_matrix piece by piece, the same to within a few units of a double's last place.  `to_pixels` leaves the last
// step out, the DCT of the output: S T_in^T.
AxisPlan make_axis_plan(const Axis& axis, bool even, bool to_pixels = false);

// Of each output pixel of an axis the component's samples that it is a sum of: the rows of S.
class RowFilter {
 public:
  explicit RowFilter(const Axis& axis);

  int output_rows() const { return static_cast<int>(rows_.size()); }
  int input_blocks() const { return input_blocks_; }
  int first(int row) const { return rows_[row].first; }
  int count(int row) const { return rows_[row].count; }
  int end(int row) const { return rows_[row].first + rows_[row].count; }
  const float* weights(int row) const { return weights_.data() + rows_[row].at; }
  bool backwards() const { return backwards_; }  // the first output row comes from the last samples
  bool needs(int block) const { return needed_[block] != 0; }  // whether any sample of it is used

 private:
  struct Row {
    int first, count;
    size_t at;
  };
  int input_blocks_;
  bool backwards_;
  std::vector<Row> rows_;
  std::vector<float> weights_;
  std::vector<uint8_t> needed_;
};

}  // namespace jpegdeep
