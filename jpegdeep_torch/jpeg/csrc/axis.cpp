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

// Eight rows, one per sample of an output block, over columns [first, first + width) of something.  `clear` keeps the
// memory: a plan takes dozens of them.
struct Rows {
  int first = 0, width = 0;
  std::vector<double> values;

  void clear(int first_in, int width_in) {
    first = first_in;
    width = width_in;
    values.assign(8 * static_cast<size_t>(width), 0.0);
  }
  double* row(int i) { return values.data() + static_cast<size_t>(i) * width; }
  const double* row(int i) const { return values.data() + static_cast<size_t>(i) * width; }
};

double sinc(double x) { return x == 0 ? 1 : std::sin(kPi * x) / (kPi * x); }

// axes.FILTERS: half the width, and the weight at a distance.
double filter_support(Filter filter) {
  switch (filter) {
    case Filter::kBox: return 0.5;
    case Filter::kCubic: return 2;
    case Filter::kLanczos: return 3;
    default: return 1;
  }
}

double filter_weight(Filter filter, double x) {
  const double far = std::abs(x);
  switch (filter) {
    case Filter::kBox: return x > -0.5 && x <= 0.5 ? 1 : 0;
    case Filter::kCubic:  // a = -1/2
      if (far < 1) return (1.5 * far - 2.5) * far * far + 1;
      return far < 2 ? ((-0.5 * far + 2.5) * far - 4) * far + 2 : 0;
    case Filter::kLanczos: return far < 3 ? sinc(x) * sinc(x / 3) : 0;
    default: return std::max(0.0, 1 - far);
  }
}

// Makes the pieces of one axis: axes._piece.
class PieceMaker {
 public:
  PieceMaker(const Axis& axis, bool to_pixels) : axis_(axis), to_pixels_(to_pixels), means_(axis.halve ? 2 : 1) {}

  // The piece's rows over whole blocks of the component; `first` is its first block.
  void make(int output_block, Rows& result) {
    const Rows* rows = make_samples(output_block);
    if (rows == nullptr) {
      result.clear(0, 0);
    } else {
      transform(*rows, result);
    }
  }

  // The same over the component's samples, before any DCT; null where the output is empty.
  const Rows* make_samples(int output_block) {
    canvas_pixels(output_block);
    bool seen = false;
    for (int j = 0; j < means_; ++j) {
      for (int& pixel : placed_[j]) {
        pixel -= axis_.before_px;
        seen = seen || (pixel >= 0 && pixel < axis_.place_px);
      }
    }
    if (!seen) return nullptr;
    resample();
    if (axis_.ratio > 1) over_samples();
    return axis_.ratio > 1 ? &samples_ : &pixels_;
  }

 private:
  // The pixels of the canvas whose mean each sample is: axes._canvas_pixels.
  void canvas_pixels(int output_block) {
    for (int i = 0; i < 8; ++i) {
      int sample = 8 * output_block + i;
      if (axis_.halve && !axis_.repeat_pixels) sample = std::min(sample, axis_.samples() - 1);
      for (int j = 0; j < means_; ++j) {
        placed_[j][i] = std::min(means_ * sample + j, axis_.canvas_px - 1);
      }
    }
  }

  // The resampler's rows over the pixels of the part that is used: axes._resampler and the mean of the pixels.
  void resample() {
    const int in_px = axis_.stop_px - axis_.start_px;
    const double scale = static_cast<double>(in_px) / axis_.place_px, share = 1.0 / means_;
    const bool nearest = axis_.filter == Filter::kTwoNearest || (axis_.filter == Filter::kTriangle && scale <= 1);
    const double widening = std::max(scale, 1.0), support = filter_support(axis_.filter) * widening;
    double position[2][8], least = in_px, most = 0;
    for (int j = 0; j < means_; ++j) {
      for (int i = 0; i < 8; ++i) {
        const double centre = (std::clamp(placed_[j][i], 0, axis_.place_px - 1) + 0.5) * scale;
        position[j][i] = nearest ? std::clamp(centre - 0.5, 0.0, in_px - 1.0) : centre;
        least = std::min(least, position[j][i]);
        most = std::max(most, position[j][i]);
      }
    }
    const int low = nearest ? static_cast<int>(least) : std::max(0, static_cast<int>(std::floor(least - support)));
    const int reach = nearest ? static_cast<int>(most) + 2 : static_cast<int>(std::ceil(most + support));
    pixels_.clear(low, std::min(in_px, reach) - low);
    for (int i = 0; i < 8; ++i) {
      for (int j = 0; j < means_; ++j) {
        if (placed_[j][i] < 0 || placed_[j][i] >= axis_.place_px) continue;
        if (nearest) {
          add_two(position[j][i], share, pixels_.row(i));
        } else {
          add_taps(position[j][i], widening, support, share, pixels_.row(i));
        }
      }
    }
    if (axis_.flip) {
      pixels_.first = in_px - low - pixels_.width;
      for (int i = 0; i < 8; ++i) std::reverse(pixels_.row(i), pixels_.row(i) + pixels_.width);
    }
    pixels_.first += axis_.start_px;
  }

  // Adds `share` of the two pixels nearest to a position, of which the second may be beyond the last.
  void add_two(double at, double share, double* row) {
    const int k = static_cast<int>(at), i = k - pixels_.first;
    row[i] += share * (1 - (at - k));
    if (i + 1 < pixels_.width) row[i + 1] += share * (at - k);
  }

  // Adds `share` of the filter's taps about a centre.
  void add_taps(double centre, double widening, double support, double share, double* row) {
    const int begin = pixels_.first, end = begin + pixels_.width;
    // In the order of Pillow's sums: where a box ends on a pixel's centre, the last bit decides.
    const int first = std::max(begin, static_cast<int>(std::floor(centre - support + 0.5)));
    const int last = std::min(end, static_cast<int>(std::floor(centre + support + 0.5)));
    taps_.clear();
    double sum = 0;
    for (int k = first; k < last; ++k) {
      taps_.push_back(filter_weight(axis_.filter, (k - centre + 0.5) * (1 / widening)));
      sum += taps_.back();
    }
    for (int k = first; k < last; ++k) row[k - begin] += share / sum * taps_[k - first];
  }

  // From the image's pixels to the component's samples: axes._over_samples.
  void over_samples() {
    const int ratio = axis_.ratio;
    const int whole = (axis_.image_px + ratio - 1) / ratio;
    const int first = std::max(0, pixels_.first / ratio - 1);
    const int end = std::min(whole, (pixels_.first + pixels_.width + ratio - 1) / ratio + 1);
    samples_.clear(first, end - first);
    for (int i = 0; i < 8; ++i) {
      const double* from = pixels_.row(i);
      double* to = samples_.row(i);
      for (int k = 0; k < pixels_.width; ++k) {
        const double weight = from[k];
        if (weight == 0) continue;  // most are, and the divisions are slow
        const int pixel = pixels_.first + k - first * ratio, sample = pixel / ratio;
        if (!axis_.smooth) {
          to[sample] += weight;
          continue;
        }
        // A pixel is 3/4 of the sample that it lies in and 1/4 of the one it is nearer to.
        const int nearer = std::clamp(pixel % 2 ? sample + 1 : sample - 1, 0, samples_.width - 1);
        to[sample] += 0.75 * weight;
        to[nearer] += 0.25 * weight;
      }
    }
  }

  // T_out rows T_in^T over whole blocks of the component; to pixels, rows T_in^T.
  void transform(const Rows& rows, Rows& result) {
    const auto& transposed = dct().transposed;
    const int first_block = rows.first / 8, end_block = (rows.first + rows.width + 7) / 8;
    const int blocks = end_block - first_block, offset = rows.first - 8 * first_block;
    Rows& half = to_pixels_ ? result : half_;
    half.clear(first_block, 8 * blocks);  // rows T_in^T
    for (int i = 0; i < 8; ++i) {
      const double* from = rows.row(i);
      for (int k = 0; k < rows.width; ++k) {
        const double weight = from[k];
        if (weight == 0) continue;
        const int sample = offset + k;
        const double* frequencies = transposed[sample % 8];
        double* to = half.row(i) + sample / 8 * 8;
        for (int f = 0; f < 8; ++f) to[f] += weight * frequencies[f];
      }
    }
    if (to_pixels_) return;
    result.clear(first_block, 8 * blocks);
    for (int b = 0; b < blocks; ++b) {
      best_kernels().multiply(dct().t[0], half_.row(0) + 8 * b, result.row(0) + 8 * b, 8 * blocks);
    }
  }

  const Axis& axis_;
  const bool to_pixels_;
  const int means_;  // how many pixels a sample is the mean of
  int placed_[2][8];
  Rows pixels_, samples_, half_;
  std::vector<double> taps_;
};

}  // namespace

AxisPlan make_axis_plan(const Axis& axis, bool even, bool to_pixels) {
  PieceMaker maker(axis, to_pixels);
  std::vector<Rows> made(axis.output_blocks());
  std::vector<AxisPlan::Piece> pieces;
  for (int o = 0; o < axis.output_blocks(); ++o) {
    maker.make(o, made[o]);
    pieces.push_back({made[o].values.data(), made[o].first, made[o].width / 8});
  }
  return AxisPlan(pieces, axis.input_blocks(), even);
}

RowFilter::RowFilter(const Axis& axis)
    : input_blocks_(axis.input_blocks()), backwards_(axis.flip), needed_(axis.input_blocks(), 0) {
  PieceMaker maker(axis, true);
  for (int o = 0; o < axis.output_blocks(); ++o) {
    const Rows* samples = maker.make_samples(o);
    for (int i = 0; i < 8 && 8 * o + i < axis.samples(); ++i) {
      int begin = 0, end = 0;
      if (samples != nullptr) {
        const double* row = samples->row(i);
        end = samples->width;
        while (end > 0 && row[end - 1] == 0) --end;
        while (begin < end && row[begin] == 0) ++begin;
        rows_.push_back({samples->first + begin, end - begin, weights_.size()});
        weights_.insert(weights_.end(), row + begin, row + end);
      } else {
        rows_.push_back({0, 0, weights_.size()});
      }
      const Row& made = rows_.back();
      for (int s = made.first; s < made.first + made.count; ++s) needed_[s / 8] = 1;
    }
  }
}

}  // namespace jpegdeep
