// The two stages of resizing in the DCT domain, built twice: for AVX2 and for whatever the compiler's baseline is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace jpegdeep {

// One axis of the resize as tiles of the banded matrix: output frequency rows, input frequency columns.
//
// Tile (b, o) is the 8 x 8 piece from input block b to output block o, stored [input frequency][output frequency]:
// the horizontal stage scatters along it and the vertical stage gathers along it.
class AxisPlan {
 public:
  // What one output block takes: (8, 8 * count), row-major, for the input blocks [first, first + count).
  struct Piece {
    const double* matrix;
    int first, count;
  };
  // One piece per output block.  With `even`, for the horizontal stage, input blocks that reach only one output block
  // get an empty tile for a second, where none reaches more: one case is then all.
  AxisPlan(const std::vector<Piece>& pieces, int input_blocks, bool even);

  int input_blocks() const { return input_blocks_; }
  int output_blocks() const { return output_blocks_; }
  int first_output(int b) const { return first_output_[b]; }
  int output_count(int b) const { return output_count_[b]; }
  bool connects(int b, int o) const {
    return o >= first_output_[b] && o < first_output_[b] + output_count_[b];
  }
  const float* tile(int b, int o) const { return tiles_.data() + 64 * (tile_base_[b] + o - first_output_[b]); }
  // Input blocks that output block o needs: [first_input, end_input).
  int first_input(int o) const { return first_input_[o]; }
  int end_input(int o) const { return end_input_[o]; }
  // Output blocks by the input block that completes them, and how many input block rows must be kept meanwhile.
  const std::vector<int>& order() const { return order_; }
  int window() const { return window_; }
  bool all_pairs() const { return all_pairs_; }
  // Input frequencies from this one on are zero in the whole matrix.
  int frequencies() const { return frequencies_; }

 private:
  void find_spans(const std::vector<Piece>& pieces);
  void fill_tiles(const std::vector<Piece>& pieces);
  void widen_to_pairs();
  void plan_vertical();

  bool all_pairs_ = false;
  int input_blocks_, output_blocks_, window_ = 1, frequencies_ = 0;
  std::vector<int> first_output_, output_count_, tile_base_, first_input_, end_input_, order_;
  std::vector<float> tiles_;
};

// How finished output coefficients are written.
struct Output {
  void* data;                // int16 or float32, the 64 frequencies of a block contiguous
  bool is_float;
  int64_t row_stride;        // in elements, between rows of blocks
  int64_t column_stride;     // in elements, between blocks of a row
  const float* steps;        // 64 quantisation steps to round to, or null
  const float* inverse_steps;
  float dc_offset;           // added to every DC
  float gain;                // that everything is multiplied by then, before it is rounded
  bool transposed = false;   // rows of input blocks become columns of output blocks: blocks are written transposed
};

// One component's part in a row of pixels: the sum of weights[k] times rows[k].
struct RowSums {
  const float* const* rows;  // each readable up to a whole multiple of 32 floats
  const float* weights;
  int count;
};

// From components to the channels of a pixel: matrix times components, plus offset, within 0..255.
struct Colours {
  // kOne: all channels are the one component plus offset[0].  kYcbcr: the first component has a share of 1 in each of
  // three channels and offset[0] is of all, the second none in the first, the third none in the last.
  enum Kind { kOne, kYcbcr, kAny } kind;
  int components, channels;  // 1 or 3 each
  int width;                 // pixels of a row
  float matrix[3][3], offset[3];
};

struct Kernels {
  // Multiplies `count` blocks by their steps into `out`, wrapping as 16-bit integers do.
  void (*dequantise)(const int16_t* blocks, int count, const uint16_t* steps, int16_t* out);
  // One row of blocks through the column plan: adds to `lines`, 8 lines (one per vertical frequency) of
  // 8 * output_blocks floats, and returns which of them were written at all, as bits; those are zeroed first.
  unsigned (*horizontal)(const int16_t* blocks, const AxisPlan& plan, const float* steps, float dc_offset,
                         int vertical_frequencies, float* lines);
  // One row of output blocks: sum over k of weights[8 * k + i] * lines[k] for its 8 vertical frequencies i.
  void (*vertical)(const float* const* lines, const float* weights, int count, int output_blocks, int output_row,
                   const Output& output);
  // (8, 8) times (8, 8) in double, the second and the result with `stride` elements from row to row.
  void (*multiply)(const double* left, const double* right, double* result, int stride);
  // Cb and Cr, 64 coefficients each, turned in their plane: (cosine cb - sine cr, cosine cr + sine cb), in steps as
  // Output's, or null.
  void (*turn)(const float* cb, const float* cr, float cosine, float sine, const Output& cb_output,
               const Output& cr_output, int row, int column);
  // `count` blocks of finished sums, 64 floats each: transposed, down the column of blocks `column` of the output.
  void (*write_column)(const float* blocks, int count, int column, const Output& output);
  // 8 lines of vertical frequencies, `length` floats each, to 8 rows of samples `stride` floats apart.  Frequencies are
  // scaled as in inverse_scales; `written`: which of the lines are not zero, as bits.
  void (*inverse)(const float* const* lines, unsigned written, int length, float* samples, size_t stride);
  // A row of pixels from sums over each component's rows.  `to` is float32, not rounded, or uint8; planar: channels are
  // `channel_bytes` apart.
  void (*mix)(const RowSums* sums, const Colours& colours, bool is_float, bool planar, int64_t channel_bytes, void* to);
  const char* name;
};

const Kernels& baseline_kernels();
const Kernels* avx2_kernels();  // null where this build or this processor has none
const Kernels& best_kernels();

}  // namespace jpegdeep
