// What to do with decoded block rows: keep them, dequantised, or bring them to another grid as they come.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "decoder.h"
#include "kernels.h"

namespace jpegdeep {

// Dequantises into one plane per component, each (block rows, block columns, 64) and contiguous.
class PlaneSink : public RowSink {
 public:
  struct Plane {
    int16_t* data;
    int columns;
  };
  explicit PlaneSink(std::vector<Plane> planes) : planes_(std::move(planes)), kernels_(best_kernels()) {}
  void row(int component, int row, const int16_t* blocks, const uint16_t* quantisation) noexcept override;
  std::unique_ptr<RowSink> part(int*, const int*) override { return std::make_unique<PlaneSink>(planes_); }

 private:
  std::vector<Plane> planes_;
  const Kernels& kernels_;
};

// One component's way to the output grid: rows of blocks in, from the top; rows of output blocks out, as soon as all
// that they depend on is there.
class ComponentResizer {
 public:
  // `input_dc` is added to every input DC (dequantised): with Output::dc_offset it makes padding other than mid-grey.
  ComponentResizer(const AxisPlan& rows, const AxisPlan& columns, const Output& output, float input_dc,
                   const Kernels& kernels);
  void add(int row, const int16_t* blocks, const uint16_t* quantisation) noexcept;
  void finish() noexcept;  // writes the output rows that no input reaches
  // The same for the output rows that are complete with input rows from `first` on, not with earlier ones; sets `first`
  // back to the first row that they need.  Those before `end` alone are looked at.
  ComponentResizer part(int& first, int end) const;
  double horizontal_s = 0, vertical_s = 0;  // only where `timed`
  bool timed = false;

 private:
  void write_row(int output_row) noexcept;

  const AxisPlan& rows_;
  const AxisPlan& columns_;
  Output output_;
  float input_dc_;
  const Kernels& kernels_;
  size_t line_length_;
  float steps_[64];
  const uint16_t* quantisation_ = nullptr;
  size_t begin_ = 0, next_ = 0;  // indices in rows_.order()
  std::vector<float> lines_, weights_;
  std::vector<float> sums_;  // where the output is transposed: one row of its blocks before that, ...
  Output upright_{};         // ... and how they are written there
  std::vector<const float*> used_lines_;
  std::vector<uint8_t> written_;  // per kept row of blocks: which of its 8 lines have anything in them
};

class ResizeSink : public RowSink {
 public:
  std::vector<ComponentResizer> components;
  void row(int component, int row, const int16_t* blocks, const uint16_t* quantisation) noexcept override;
  std::unique_ptr<RowSink> part(int* first, const int* end) override;
  void finish() noexcept;

 private:
  std::atomic<bool> by_parts_{false};  // these have written everything
};

}  // namespace jpegdeep
