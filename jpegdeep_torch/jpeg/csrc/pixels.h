// Pixels at the wanted size straight from coefficients: S T_in^T down and across each component, then one conversion of
// colours and one rounding.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "axis.h"
#include "decoder.h"
#include "kernels.h"

namespace jpegdeep {

// One component's way: over the samples of its columns of pixels, and over its coefficients along the rows.
struct PixelPlans {
  std::shared_ptr<RowFilter> rows;
  std::shared_ptr<AxisPlan> columns;
};

// Where pixels go.  Strides in elements.
struct PixelOutput {
  void* data;
  bool is_float;     // float32, not rounded; else uint8
  bool planar;       // a row's pixels are contiguous in each channel; else its channels are in each pixel
  bool transposed;   // rows of the file become columns of the output
  int64_t row_stride, column_stride, channel_stride;
};

// Takes rows of blocks of all components, in the order of the scan, and writes each row of pixels as soon as all that it
// depends on is there.
class PixelSink : public RowSink {
 public:
  // `whole`: a component may come after another one's end, so that all its rows have to be kept.
  PixelSink(const Decoder& decoder, const std::vector<PixelPlans>& plans, const Colours& colours,
            const PixelOutput& output, bool whole, const Kernels& kernels);
  void row(int component, int row, const int16_t* blocks, const uint16_t* quantisation) noexcept override;
  bool finished() const { return next_ == output_rows_; }

 private:
  struct Component {
    const RowFilter* rows;
    const AxisPlan* columns;
    size_t line_length;           // in floats; the same for all
    int window;                   // rows of samples that are kept
    int arrived = 0;              // rows of samples that came
    const uint16_t* quantisation = nullptr;
    float gain = 1;               // of its values, beside the colours' matrix
    float steps[64];
    std::vector<float> samples;   // window rows
    std::vector<const float*> used;
  };
  void find_windows(const Decoder& decoder, bool whole);
  int output_row(int i) const { return backwards_ ? output_rows_ - 1 - i : i; }
  void write_row(int row) noexcept;

  std::vector<Component> components_;
  Colours colours_;
  const PixelOutput output_;
  const Kernels& kernels_;
  int output_rows_, output_columns_, next_ = 0;
  bool backwards_;
  std::vector<float> lines_, zeros_;  // 8 lines of frequencies, and one that stands for those that are not there
  std::vector<uint8_t> turned_;       // a row of pixels before it becomes a column
};

}  // namespace jpegdeep
