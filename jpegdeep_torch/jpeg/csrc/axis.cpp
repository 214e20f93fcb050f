#include "axis.h"

#include <algorithm>
#include <cmath>

namespace jpegdeep {
namespace {

constexpr double kPi = 3.14159265358979323846;

// T of JPEG (ITU-T T.81, A.3.3): orthonormal, [frequency][sample].
struct Dct {
  double t[8][8], transposed[8][8];
  Dct() {
    for (int f = 0; f < 8; ++f) {
      for (int s = 0; s < 8; ++s) {
        t[f][s] = std::cos((2 * s + 1) * f * kPi / 16) / 2;
        if (f == 0) t[f][s] /= std::sqrt(2.0);
        transposed[s][f] = t[f][s];
      }
    }
  }
};

const Dct& dct() {
  static const Dct tables;
  return tables;
}

// Eight rows, one per sample of an output block, over columns [first, first + width) of something.
struct Rows {
  int first = 0, width = 0;
  std::vector<double> values;

  Rows(int first_in, int width_in) : first(first_in), width(width_in), values(8 * static_cast<size_t>(width_in)) {}
  double* row(int i) { return values.data() + static_cast<size_t>(i) * width; }
  const double* row(int i) const { return values.data() + static_cast<size_t>(i) * width; }
};

// The two pixels of the canvas whose mean each sample is: axes._canvas_pixels.
void canvas_pixels(const Axis& axis, int output_block, int pixels[2][8]) {
  for (int i = 0; i < 8; ++i) {
    int sample = 8 * output_block + i;
    if (axis.halve && !axis.repeat_pixels) sample = std::min(sample, axis.samples() - 1);
    for (int j = 0; j < 2; ++j) {
      pixels[j][i] = std::min(axis.halve ? 2 * sample + j : sample, axis.canvas_px - 1);
    }
  }
}

// The resampler's rows over the pixels of the part that is used: axes._resampler and the mean of the two pixels.
Rows resample(const Axis& axis, const int placed[2][8]) {
  const int in_px = axis.stop_px - axis.start_px;
  const double scale = static_cast<double>(in_px) / axis.place_px;
  const bool wide = axis.antialias && scale > 1;
  double position[2][8], least = in_px, most = 0;
  for (int j = 0; j < 2; ++j) {
    for (int i = 0; i < 8; ++i) {
      const double centre = (std::clamp(placed[j][i], 0, axis.place_px - 1) + 0.5) * scale;
      position[j][i] = wide ? centre : std::clamp(centre - 0.5, 0.0, in_px - 1.0);
      least = std::min(least, position[j][i]);
      most = std::max(most, position[j][i]);
    }
  }
  const int low = wide ? std::max(0, static_cast<int>(std::floor(least - scale))) : static_cast<int>(least);
  const int high = std::min(in_px, wide ? static_cast<int>(std::ceil(most + scale)) : static_cast<int>(most) + 2);
  Rows rows(low, high - low);
  std::vector<double> weights(rows.width);
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 2; ++j) {
      if (placed[j][i] < 0 || placed[j][i] >= axis.place_px) continue;
      double* row = rows.row(i);
      const double at = position[j][i] - low;
      if (!wide) {  // the two nearest pixels, of which the second may be beyond the last
        const int k = static_cast<int>(at);
        row[k] += 0.5 * (1 - (at - k));
        if (k + 1 < rows.width) row[k + 1] += 0.5 * (at - k);
        continue;
      }
      double sum = 0;
      for (int k = 0; k < rows.width; ++k) {
        weights[k] = std::max(0.0, 1 - std::abs(k + 0.5 - at) / scale);
        sum += weights[k];
      }
      for (int k = 0; k < rows.width; ++k) row[k] += 0.5 / sum * weights[k];
    }
  }
  if (axis.flip) {
    rows.first = in_px - low - rows.width;
    for (int i = 0; i < 8; ++i) std::reverse(rows.row(i), rows.row(i) + rows.width);
  }
  rows.first += axis.start_px;
  return rows;
}

// From the image's pixels to the component's samples: axes._over_samples.
Rows over_samples(const Rows& pixels, const Axis& axis) {
  const int ratio = axis.ratio;
  if (ratio == 1) return pixels;
  const int whole = (axis.image_px + ratio - 1) / ratio;
  const int first = std::max(0, pixels.first / ratio - 1);
  const int end = std::min(whole, (pixels.first + pixels.width + ratio - 1) / ratio + 1);
  Rows samples(first, end - first);
  for (int i = 0; i < 8; ++i) {
    for (int k = 0; k < pixels.width; ++k) {
      const double weight = pixels.row(i)[k];
      if (weight == 0) continue;  // most are, and the divisions are slow
      const int pixel = pixels.first + k - first * ratio, sample = pixel / ratio;
      if (!axis.smooth) {
        samples.row(i)[sample] += weight;
        continue;
      }
      // A pixel is 3/4 of the sample that it lies in and 1/4 of the one it is nearer to.
      const int nearer = std::clamp(pixel % 2 ? sample + 1 : sample - 1, 0, samples.width - 1);
      samples.row(i)[sample] += 0.75 * weight;
      samples.row(i)[nearer] += 0.25 * weight;
    }
  }
  return samples;
}

// T_out rows T_in^T over whole blocks of the component.
Rows transform(const Rows& samples, const Axis& axis) {
  const auto& t = dct().t;
  const auto& transposed = dct().transposed;
  const int first_block = samples.first / 8, end_block = (samples.first + samples.width + 7) / 8;
  const int blocks = end_block - first_block, offset = samples.first - 8 * first_block;
  Rows result(first_block, 8 * blocks);
  for (int b = 0; b < blocks; ++b) {
    double half[8][8] = {};  // the block's part of rows T_in^T
    for (int i = 0; i < 8; ++i) {
      const int begin = std::max(0, 8 * b - offset), end = std::min(samples.width, 8 * b + 8 - offset);
      for (int k = begin; k < end; ++k) {
        const double weight = samples.row(i)[k];
        if (weight == 0) continue;
        const int s = offset + k - 8 * b;
        for (int f = 0; f < 8; ++f) half[i][f] += weight * transposed[s][f];
      }
    }
    for (int f = 0; f < 8; ++f) {
      double line[8] = {};
      for (int i = 0; i < 8; ++i) {
        for (int k = 0; k < 8; ++k) line[k] += t[f][i] * half[i][k];
      }
      std::copy(line, line + 8, result.row(f) + 8 * b);
    }
  }
  if (axis.drop_frequencies) {
    const double samples_in = static_cast<double>(axis.stop_px - axis.start_px) / axis.ratio;
    const double samples_out = axis.place_px / (axis.halve ? 2.0 : 1.0);
    const int kept = std::clamp(static_cast<int>(std::ceil(8 * samples_out / samples_in)), 1, 8);
    for (size_t k = 0; k < result.values.size(); ++k) {
      if (static_cast<int>(k % 8) >= kept) result.values[k] = 0;
    }
  }
  return result;
}

Rows piece(const Axis& axis, int output_block) {
  int placed[2][8];
  canvas_pixels(axis, output_block, placed);
  bool seen = false;
  for (auto& pixels : placed) {
    for (int& pixel : pixels) {
      pixel -= axis.before_px;
      seen = seen || (pixel >= 0 && pixel < axis.place_px);
    }
  }
  if (!seen) return Rows(0, 0);
  return transform(over_samples(resample(axis, placed), axis), axis);
}

}  // namespace

AxisPlan make_axis_plan(const Axis& axis, bool even) {
  std::vector<Rows> made;
  std::vector<AxisPlan::Piece> pieces;
  for (int o = 0; o < axis.output_blocks(); ++o) made.push_back(piece(axis, o));
  for (const Rows& rows : made) pieces.push_back({rows.values.data(), rows.first, rows.width / 8});
  return AxisPlan(pieces, axis.input_blocks(), even);
}

}  // namespace jpegdeep
