#include "pixels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace jpegdeep {
namespace {

constexpr int kChunk = 32;  // pixels that Kernels::mix works on at a time: rows of floats are as long as whole ones

// What Kernels::inverse wants frequencies multiplied by: its cosines are taken out of it (Arai, Agui and Nakajima 1988).
const float* inverse_scales() {
  static const struct Scales {
    float values[8];
    Scales() {
      for (int k = 0; k < 8; ++k) {
        const double cosine = k == 0 ? 1 : std::cos(k * 3.14159265358979323846 / 16) * std::sqrt(2.0);
        values[k] = static_cast<float>(cosine / std::sqrt(8.0));
      }
    }
  } scales;
  return scales.values;
}

// Finds the colours' kind, and takes the first component's share of the channels out of them where it is in all the same.
float take_out_gain(Colours& colours) {
  const auto& m = colours.matrix;
  for (int k = 1; k < colours.channels; ++k) {
    if (m[k][0] != m[0][0] || colours.offset[k] != colours.offset[0]) return 1;
  }
  const bool ycbcr = colours.components == 3 && colours.channels == 3 && m[0][1] == 0 && m[2][2] == 0;
  if (colours.components != 1 && !ycbcr) return 1;
  colours.kind = ycbcr ? Colours::kYcbcr : Colours::kOne;
  const float gain = m[0][0];
  for (int k = 0; k < colours.channels; ++k) colours.matrix[k][0] = 1;
  return gain;
}

}  // namespace

PixelSink::PixelSink(const Decoder& decoder, const std::vector<PixelPlans>& plans, const Colours& colours,
                     const PixelOutput& output, bool whole, const Kernels& kernels)
    : colours_(colours), output_(output), kernels_(kernels), output_rows_(plans[0].rows->output_rows()),
      output_columns_(colours.width), backwards_(plans[0].rows->backwards()) {
  const size_t columns = 8 * static_cast<size_t>(plans[0].columns->output_blocks());
  const size_t length = (columns + kChunk - 1) / kChunk * kChunk;
  colours_.kind = Colours::kAny;
  components_.resize(plans.size());
  components_[0].gain = take_out_gain(colours_);
  for (size_t c = 0; c < plans.size(); ++c) {
    Component& component = components_[c];
    component.rows = plans[c].rows.get();
    component.columns = plans[c].columns.get();
    component.line_length = length;
  }
  find_windows(decoder, whole);
  lines_.resize(8 * length);
  zeros_.resize(length);
  if (output.transposed) turned_.resize(static_cast<size_t>(output_columns_) * colours.channels * sizeof(float));
}

void PixelSink::find_windows(const Decoder& decoder, bool whole) {
  const bool interleaved = decoder.components() > 1;
  const size_t count = components_.size();
  std::vector<int> mcu(count);  // samples of a component that come together
  int mcu_rows = 0;
  for (size_t c = 0; c < count; ++c) {
    mcu[c] = 8 * (interleaved ? decoder.vertical_sampling(static_cast<int>(c)) : 1);
    const int blocks = components_[c].rows->input_blocks();
    mcu_rows = std::max(mcu_rows, (8 * blocks + mcu[c] - 1) / mcu[c]);
    components_[c].window = whole ? 8 * blocks : 8;
  }
  std::vector<std::vector<int>> first(count, std::vector<int>(output_rows_));  // that this or a later row needs
  for (size_t c = 0; c < count; ++c) {
    int least = 8 * components_[c].rows->input_blocks();
    for (int i = output_rows_ - 1; i >= 0; --i) {
      least = std::min(least, components_[c].rows->first(output_row(i)));
      first[c][i] = least;
    }
  }
  // When row m of MCUs begins, the rows before `next` have been written.
  for (int m = 0, next = 0; m < mcu_rows; ++m) {
    const auto written = [&](int row) {
      for (size_t c = 0; c < count; ++c) {
        if (components_[c].rows->end(row) > m * mcu[c]) return false;
      }
      return true;
    };
    while (next < output_rows_ && written(output_row(next))) ++next;
    if (next == output_rows_) break;
    for (size_t c = 0; c < count; ++c) {
      Component& component = components_[c];
      component.window = std::max(component.window, (m + 1) * mcu[c] - first[c][next] / 8 * 8);
    }
  }
  for (Component& component : components_) {
    component.samples.resize(component.window * component.line_length);
    int most = 0;
    for (int r = 0; r < output_rows_; ++r) most = std::max(most, component.rows->count(r));
    component.used.resize(most);
  }
}

void PixelSink::row(int index, int row, const int16_t* blocks, const uint16_t* quantisation) noexcept {
  if (index >= static_cast<int>(components_.size())) return;
  Component& component = components_[index];
  if (row == 0 && component.arrived > 0) {  // from the top again, where a decoder gave up and another took over
    for (Component& each : components_) each.arrived = 0;
    next_ = 0;
  }
  if (quantisation != component.quantisation) {
    component.quantisation = quantisation;
    const float* scales = inverse_scales();
    for (int i = 0; i < 64; ++i) component.steps[i] = component.gain * quantisation[i] * scales[i / 8];
  }
  if (component.rows->needs(row)) {
    float* lines = lines_.data();
    const size_t length = component.line_length, columns = 8 * static_cast<size_t>(component.columns->output_blocks());
    const unsigned written = kernels_.horizontal(blocks, *component.columns, component.steps, 0.0f, 8, lines);
    float* samples = component.samples.data() + static_cast<size_t>(8 * row % component.window) * length;
    const float* frequencies[8];
    for (int v = 0; v < 8; ++v) frequencies[v] = (written >> v) & 1 ? lines + v * columns : zeros_.data();
    kernels_.inverse(frequencies, written, static_cast<int>(columns), samples, length);
  }
  component.arrived = 8 * (row + 1);
  for (; next_ < output_rows_; ++next_) {
    const int output = output_row(next_);
    for (const Component& each : components_) {
      if (each.rows->end(output) > each.arrived) return;
    }
    write_row(output);
  }
}

void PixelSink::write_row(int row) noexcept {
  RowSums sums[3];
  for (size_t c = 0; c < components_.size(); ++c) {
    Component& component = components_[c];
    const int first = component.rows->first(row), count = component.rows->count(row);
    for (int k = 0; k < count; ++k) {
      component.used[k] =
          component.samples.data() + static_cast<size_t>((first + k) % component.window) * component.line_length;
    }
    sums[c] = {component.used.data(), component.rows->weights(row), count};
  }
  const size_t item = output_.is_float ? sizeof(float) : 1;
  if (!output_.transposed) {
    auto* to = static_cast<uint8_t*>(output_.data) + item * row * output_.row_stride;
    kernels_.mix(sums, colours_, output_.is_float, output_.planar, item * output_.channel_stride, to);
    return;
  }
  const int channels = colours_.channels;
  kernels_.mix(sums, colours_, output_.is_float, false, 0, turned_.data());
  for (int x = 0; x < output_columns_; ++x) {
    for (int k = 0; k < channels; ++k) {
      const int64_t at = x * output_.row_stride + row * output_.column_stride + k * output_.channel_stride;
      std::memcpy(static_cast<uint8_t*>(output_.data) + item * at, turned_.data() + item * (x * channels + k), item);
    }
  }
}

}  // namespace jpegdeep
