#include "resizer.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <numeric>

namespace jpegdeep {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

AxisPlan::AxisPlan(const std::vector<Piece>& pieces, int input_blocks, bool even)
    : input_blocks_(input_blocks), output_blocks_(static_cast<int>(pieces.size())) {
  find_spans(pieces);
  if (even) widen_to_pairs();
  fill_tiles(pieces);
  plan_vertical();
}

void AxisPlan::find_spans(const std::vector<Piece>& pieces) {
  std::vector<int> end(input_blocks_, 0);
  first_output_.assign(input_blocks_, output_blocks_);
  for (int o = 0; o < output_blocks_; ++o) {
    const Piece& piece = pieces[o];
    for (int i = 0; i < 8 * piece.count; ++i) {  // block by block of each of the 8 rows
      const double* frequencies = piece.matrix + 8 * i;
      int used = 8;
      while (used > 0 && frequencies[used - 1] == 0.0) --used;
      if (used == 0) continue;
      const int b = piece.first + i % piece.count;
      first_output_[b] = std::min(first_output_[b], o);
      end[b] = o + 1;
      frequencies_ = std::max(frequencies_, used);
    }
  }
  for (int b = 0; b < input_blocks_; ++b) output_count_.push_back(std::max(0, end[b] - first_output_[b]));
}

void AxisPlan::fill_tiles(const std::vector<Piece>& pieces) {
  int tiles = 0;
  for (int b = 0; b < input_blocks_; ++b) {
    tile_base_.push_back(tiles);
    tiles += output_count_[b];
  }
  tiles_.assign(64 * static_cast<size_t>(tiles), 0.0f);
  for (int o = 0; o < output_blocks_; ++o) {
    const Piece& piece = pieces[o];
    for (int b = piece.first; b < piece.first + piece.count; ++b) {
      if (!connects(b, o)) continue;
      float* tile = tiles_.data() + 64 * (tile_base_[b] + o - first_output_[b]);
      for (int i = 0; i < 64; ++i) {
        tile[i] = static_cast<float>(piece.matrix[(i % 8) * 8 * piece.count + 8 * (b - piece.first) + i / 8]);
      }
    }
  }
}

void AxisPlan::widen_to_pairs() {
  if (output_blocks_ < 2 || *std::max_element(output_count_.begin(), output_count_.end()) > 2) return;
  all_pairs_ = true;
  for (int b = 0; b < input_blocks_; ++b) {
    if (output_count_[b] == 0) continue;
    first_output_[b] = std::min(first_output_[b], output_blocks_ - 2);
    output_count_[b] = 2;
  }
}

void AxisPlan::plan_vertical() {
  first_input_.assign(output_blocks_, std::numeric_limits<int>::max());
  end_input_.assign(output_blocks_, 0);
  for (int b = 0; b < input_blocks_; ++b) {
    for (int o = first_output_[b]; o < first_output_[b] + output_count_[b]; ++o) {
      first_input_[o] = std::min(first_input_[o], b);
      end_input_[o] = b + 1;
    }
  }
  order_.resize(output_blocks_);
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return end_input_[a] < end_input_[b]; });
  // From the last output to the first: the earliest input that any output still to come needs.
  int earliest = std::numeric_limits<int>::max();
  for (auto o = order_.rbegin(); o != order_.rend(); ++o) {
    earliest = std::min(earliest, first_input_[*o]);
    window_ = std::max(window_, end_input_[*o] - earliest);
  }
}

void PlaneSink::row(int component, int row, const int16_t* blocks, const uint16_t* quantisation) noexcept {
  const Plane& plane = planes_[component];
  kernels_.dequantise(blocks, plane.columns, quantisation, plane.data + static_cast<size_t>(row) * plane.columns * 64);
}

ComponentResizer::ComponentResizer(const AxisPlan& rows, const AxisPlan& columns, const Output& output, float input_dc,
                                   const Kernels& kernels)
    : rows_(rows), columns_(columns), output_(output), input_dc_(input_dc), kernels_(kernels),
      line_length_(8 * static_cast<size_t>(columns.output_blocks())) {
  const size_t window = rows.window();
  lines_.resize(window * 8 * line_length_);
  weights_.resize(window * 64);
  used_lines_.resize(window * 8);
  written_.resize(window);
  if (output.transposed) {
    sums_.resize(8 * line_length_);
    upright_.data = sums_.data();
    upright_.is_float = true;
    upright_.column_stride = kBlock;
    upright_.gain = 1;
  }
}

void ComponentResizer::add(int row, const int16_t* blocks, const uint16_t* quantisation) noexcept {
  if (quantisation != quantisation_) {
    for (int i = 0; i < 64; ++i) steps_[i] = quantisation[i];
    quantisation_ = quantisation;
  }
  if (row == 0) next_ = begin_;  // from the top again, where a decoder gave up and another took over
  const double start = timed ? now_s() : 0;
  const int slot = row % rows_.window();
  if (rows_.output_count(row) > 0) {
    written_[slot] = kernels_.horizontal(blocks, columns_, steps_, input_dc_, rows_.frequencies(),
                                         lines_.data() + static_cast<size_t>(slot) * 8 * line_length_);
  }
  const double middle = timed ? now_s() : 0;
  const std::vector<int>& order = rows_.order();
  for (; next_ < order.size() && rows_.end_input(order[next_]) <= row + 1; ++next_) write_row(order[next_]);
  if (timed) {
    horizontal_s += middle - start;
    vertical_s += now_s() - middle;
  }
}

void ComponentResizer::finish() noexcept {
  for (; next_ < rows_.order().size(); ++next_) write_row(rows_.order()[next_]);
}

void ComponentResizer::write_row(int output_row) noexcept {
  int count = 0;
  for (int b = rows_.first_input(output_row); b < rows_.end_input(output_row); ++b) {
    if (!rows_.connects(b, output_row)) continue;  // without antialiasing a steep resize skips whole blocks
    const int slot = b % rows_.window();
    const float* tile = rows_.tile(b, output_row);
    for (int v = 0; v < 8; ++v) {
      if (!((written_[slot] >> v) & 1)) continue;
      used_lines_[count] = lines_.data() + (static_cast<size_t>(slot) * 8 + v) * line_length_;
      std::memcpy(&weights_[8 * count], tile + 8 * v, 8 * sizeof(float));
      ++count;
    }
  }
  const int blocks = columns_.output_blocks();
  if (!output_.transposed) {
    kernels_.vertical(used_lines_.data(), weights_.data(), count, blocks, output_row, output_);
    return;
  }
  kernels_.vertical(used_lines_.data(), weights_.data(), count, blocks, 0, upright_);
  kernels_.write_column(sums_.data(), blocks, output_row, output_);
}

ComponentResizer ComponentResizer::part(int& first, int end) const {
  ComponentResizer result(rows_, columns_, output_, input_dc_, kernels_);
  const std::vector<int>& order = rows_.order();
  if (first > 0) {
    while (result.begin_ < order.size() && rows_.end_input(order[result.begin_]) <= first) ++result.begin_;
  }
  result.next_ = result.begin_;
  for (size_t i = result.begin_; i < order.size() && rows_.end_input(order[i]) <= end; ++i) {
    if (rows_.end_input(order[i]) > 0) first = std::min(first, rows_.first_input(order[i]));
  }
  return result;
}

void ResizeSink::row(int component, int row, const int16_t* blocks, const uint16_t* quantisation) noexcept {
  by_parts_ = false;
  if (component < static_cast<int>(components.size())) components[component].add(row, blocks, quantisation);
}

std::unique_ptr<RowSink> ResizeSink::part(int* first, const int* end) {
  auto result = std::make_unique<ResizeSink>();
  result->components.reserve(components.size());
  for (size_t c = 0; c < components.size(); ++c) result->components.push_back(components[c].part(first[c], end[c]));
  by_parts_ = true;
  return result;
}

void ResizeSink::finish() noexcept {
  if (by_parts_) return;
  for (ComponentResizer& component : components) component.finish();
}

}  // namespace jpegdeep
