// The matrices of axes.py, built here because random crops need new ones for every image.
#pragma once

#include <vector>

#include "kernels.h"

namespace jpegdeep {

// axes.Axis, field by field.
struct Axis {
  int image_px, ratio, start_px, stop_px, place_px, before_px, canvas_px;
  bool smooth, flip, halve, repeat_pixels, antialias;

  int samples() const { return halve ? (canvas_px + 1) / 2 : canvas_px; }
  int output_blocks() const { return (samples() + 7) / 8; }
  int input_blocks() const { return (image_px + 8 * ratio - 1) / (8 * ratio); }
};

// axes.axis_matrix piece by piece, the same to within a few units of a double's last place.
AxisPlan make_axis_plan(const Axis& axis, bool even);

}  // namespace jpegdeep
