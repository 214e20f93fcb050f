// The Python face of the native part.  Shapes are checked here; the GIL is released wherever a file is worked on.
#include <algorithm>
#include <cmath>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "axis.h"
#include "decoder.h"
#include "module.h"
#include "pixels.h"
#include "resizer.h"
#include "tasks.h"

namespace py = pybind11;

namespace jpegdeep {
namespace {

using Steps = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Plane = py::array_t<int16_t, py::array::c_style>;
using Plans = std::pair<std::shared_ptr<AxisPlan>, std::shared_ptr<AxisPlan>>;  // rows, columns

// From an `axes.Axis`.  What would lead outside the arrays is refused: `component_axes` never makes it.
Axis make_axis(const py::object& given) {
  const auto number = [&](const char* name) { return given.attr(name).cast<int>(); };
  const auto flag = [&](const char* name) { return given.attr(name).cast<bool>(); };
  const auto filter = given.attr("filter").cast<std::string>();
  const char* const filters[] = {"two-nearest", "bilinear", "bicubic", "lanczos", "box"};  // in the order of Filter
  const auto known = std::find(std::begin(filters), std::end(filters), filter);
  const Axis axis{number("image_px"), number("ratio"),     number("start_px"), number("stop_px"),
                  number("place_px"), number("before_px"), number("canvas_px"), flag("smooth"),
                  flag("flip"),       flag("halve"),       flag("repeat_pixels"),
                  static_cast<Filter>(known - std::begin(filters))};
  if (axis.ratio < 1 || axis.start_px < 0 || axis.stop_px <= axis.start_px || axis.stop_px > axis.image_px ||
      axis.place_px < 1 || axis.canvas_px < 1 || (axis.smooth && axis.ratio != 2) || known == std::end(filters)) {
    throw py::value_error("an axis has a part within the image, a place, a filter that there is, and no interpolation "
                          "but of a ratio of 2");
  }
  return axis;
}

std::shared_ptr<AxisPlan> make_plan(const py::object& given, bool even, bool to_pixels) {
  const Axis axis = make_axis(given);
  const py::gil_scoped_release unlocked;
  return std::make_shared<AxisPlan>(make_axis_plan(axis, even, to_pixels));
}

std::shared_ptr<RowFilter> make_row_filter(const py::object& given) {
  const Axis axis = make_axis(given);
  if (axis.halve || axis.before_px > 0 || axis.canvas_px > axis.place_px + axis.before_px) {
    throw py::value_error("an axis to pixels is all within its place");
  }
  const py::gil_scoped_release unlocked;
  return std::make_shared<RowFilter>(axis);
}

// The 64 steps, and after them what to multiply by to divide by them.
std::vector<float> with_inverses(const py::object& steps) {
  const auto given = steps.cast<Steps>();
  if (given.size() != 64) throw py::value_error("there are 64 quantisation steps");
  std::vector<float> result(given.data(), given.data() + 64);
  for (int i = 0; i < 64; ++i) result.push_back(1.0f / result[i]);
  return result;
}

// One component's destination: plans, buffer, quantisation steps, DC offsets and gain.
struct Target {
  Plans plans;
  py::array array;
  Output output{};
  float input_dc = 0;
  std::vector<float> steps;

  Target(const Plans& plans_in, py::array array_in, const py::object& steps_in, float input_dc_in, float output_dc,
         float gain, bool transposed)
      : plans(plans_in), array(std::move(array_in)), input_dc(input_dc_in) {
    const auto item = array.itemsize();
    output.is_float = py::isinstance<py::array_t<float>>(array);
    if (!output.is_float && !py::isinstance<py::array_t<int16_t>>(array)) {
      throw py::value_error("an output is int16 or float32");
    }
    const int rows = (transposed ? plans.second : plans.first)->output_blocks();
    const int columns = (transposed ? plans.first : plans.second)->output_blocks();
    if (array.ndim() != 3 || array.shape(0) != rows || array.shape(1) != columns || array.shape(2) != 64 ||
        array.strides(2) != item) {
      throw py::value_error("an output is (" + std::to_string(rows) + ", " + std::to_string(columns) +
                            ", 64) with contiguous frequencies");
    }
    output.data = array.mutable_data();
    output.row_stride = array.strides(0) / item;
    output.column_stride = array.strides(1) / item;
    output.dc_offset = output_dc;
    output.gain = gain;
    output.transposed = transposed;
    if (!steps_in.is_none()) steps = with_inverses(steps_in);
  }

  Output bound() const {  // its pointers hold as long as this Target stays where it is
    Output result = output;
    if (!steps.empty()) {
      result.steps = steps.data();
      result.inverse_steps = steps.data() + 64;
    }
    return result;
  }
};

// Where all components' pixels go: plans (rows, columns) for each, colours, and the part of a buffer.
struct PixelTarget {
  std::vector<PixelPlans> plans;
  py::array array;
  Colours colours{};
  PixelOutput output{};

  PixelTarget(const std::vector<std::pair<std::shared_ptr<RowFilter>, std::shared_ptr<AxisPlan>>>& plans_in,
              py::array array_in, int width, const Steps& matrix, const Steps& offset, bool channels_first,
              bool transposed)
      : array(std::move(array_in)) {
    for (const auto& [rows, columns] : plans_in) plans.push_back({rows, columns});
    const bool is_float = py::isinstance<py::array_t<float>>(array);
    if (!is_float && !py::isinstance<py::array_t<uint8_t>>(array)) {
      throw py::value_error("pixels are uint8 or float32");
    }
    const auto count = static_cast<py::ssize_t>(plans.size());
    const py::ssize_t channels = offset.size();
    if ((count != 1 && count != 3) || (channels != 1 && channels != 3) || matrix.ndim() != 2 ||
        matrix.shape(0) != channels || matrix.shape(1) != count || array.ndim() != 3) {
      throw py::value_error("1 or 3 components become 1 or 3 channels of a buffer of 3 dimensions");
    }
    const int height = plans[0].rows->output_rows();
    for (const PixelPlans& each : plans) {
      if (each.rows->output_rows() != height || each.columns->output_blocks() != (width + 7) / 8) {
        throw py::value_error("the components' plans are for different sizes");
      }
    }
    const int down = channels_first ? 1 : 0, across = down + 1, depth = channels_first ? 0 : 2;
    if (array.shape(down) != (transposed ? width : height) || array.shape(across) != (transposed ? height : width) ||
        array.shape(depth) != channels) {
      throw py::value_error("the buffer has another size than the plans");
    }
    const auto item = array.itemsize();
    output = {array.mutable_data(), is_float,
              false, transposed, array.strides(down) / item, array.strides(across) / item,
              array.strides(depth) / item};
    output.planar = channels == 1 || output.channel_stride != 1;
    if (!transposed && output.column_stride != (output.planar ? 1 : channels)) {
      throw py::value_error("the pixels of a row are contiguous, of each channel or with their channels");
    }
    colours.components = static_cast<int>(count);
    colours.channels = static_cast<int>(channels);
    colours.width = width;
    for (int k = 0; k < channels; ++k) {
      colours.offset[k] = offset.data()[k];
      for (int c = 0; c < count; ++c) colours.matrix[k][c] = matrix.at(k, c);
    }
  }
};

Damage damage_named(const std::string& name) {
  if (name == "error") return Damage::kError;
  if (name == "strict") return Damage::kStrict;
  if (name == "tolerate") return Damage::kTolerate;
  throw py::value_error("on_damage is 'error', 'strict' or 'tolerate', not '" + name + "'");
}

// A file whose header has been read: its properties, then its coefficients, once.
class File {
 public:
  File(py::bytes data, const std::string& on_damage, bool fast) : data_(std::move(data)), fast_(fast) {
    const Damage damage = damage_named(on_damage);
    char* bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data_.ptr(), &bytes, &size) != 0) throw py::error_already_set();
    const py::gil_scoped_release unlocked;
    decoder_ = std::make_unique<Decoder>(reinterpret_cast<const uint8_t*>(bytes), static_cast<size_t>(size), damage);
  }

  py::tuple image_size() const { return py::make_tuple(decoder_->height(), decoder_->width()); }

  py::tuple sampling() const {
    py::tuple result(decoder_->components());
    for (int c = 0; c < decoder_->components(); ++c) {
      result[c] = py::make_tuple(decoder_->horizontal_sampling(c), decoder_->vertical_sampling(c));
    }
    return result;
  }

  bool several_scans() const { return decoder_->several_scans(); }
  std::vector<std::pair<std::string, int>> warnings() const { return decoder_->warnings(); }

  // Decodes everything and keeps nothing, for the verdict and the warnings.
  void check() {
    class : public RowSink {
      void row(int, int, const int16_t*, const uint16_t*) noexcept override {}
    } nothing;
    const py::gil_scoped_release unlocked;
    decoder_->decode(nothing, fast_);
  }

  // uint8 (height, width, 3) of the upright picture, RGB.
  py::array_t<uint8_t> pixels(bool transpose, bool flip_vertical, bool flip_horizontal) {
    const int height = decoder_->height(), width = decoder_->width();
    py::array_t<uint8_t> rgb({transpose ? width : height, transpose ? height : width, 3});
    uint8_t* data = rgb.mutable_data();
    const py::gil_scoped_release unlocked;
    decoder_->decode_pixels(data, {transpose, flip_vertical, flip_horizontal});
    return rgb;
  }

  // (planes, quantisation): int16 (block rows, block columns, 64) each, uint16 (components, 64).
  py::tuple read(int threads) {
    const int count = decoder_->components();
    py::tuple planes(count);
    std::vector<PlaneSink::Plane> targets;
    for (int c = 0; c < count; ++c) {
      Plane plane({decoder_->block_rows(c), decoder_->block_columns(c), kBlock});
      targets.push_back({plane.mutable_data(), decoder_->block_columns(c)});
      planes[c] = std::move(plane);
    }
    PlaneSink sink(std::move(targets));
    {
      const py::gil_scoped_release unlocked;
      decoder_->decode(sink, fast_, threads);
    }
    py::array_t<uint16_t> tables({count, kBlock});
    for (int c = 0; c < count; ++c) std::copy_n(decoder_->quantisation(c), kBlock, tables.mutable_data(c, 0));
    return py::make_tuple(planes, tables);
  }

  // Resizes the first `targets.size()` components into the targets' buffers.
  py::object resize(const std::vector<std::shared_ptr<Target>>& targets, bool timed, int threads) {
    const auto sink = resizing(targets, timed);
    {
      const py::gil_scoped_release unlocked;
      decoder_->decode(*sink, fast_, threads);
      sink->finish();
    }
    if (!timed) return py::none();
    double horizontal = 0, vertical = 0;
    for (const ComponentResizer& component : sink->components) {
      horizontal += component.horizontal_s;
      vertical += component.vertical_s;
    }
    return py::make_tuple(horizontal, vertical);
  }

  // The same to be done later, by whoever holds this file and the targets, without the GIL.
  std::function<void()> resize_task(const std::vector<std::shared_ptr<Target>>& targets) {
    return [this, sink = resizing(targets, false)] {
      decoder_->decode(*sink, fast_);
      sink->finish();
    };
  }

  // A task for the first components' pixels, resized, into the target's buffer.
  std::function<void()> pixels_task(const PixelTarget& target, bool baseline) {
    const int components = static_cast<int>(target.plans.size());
    if (components > decoder_->components()) throw py::value_error("more plans than components");
    for (int c = 0; c < components; ++c) {
      if (target.plans[c].rows->input_blocks() != decoder_->block_rows(c) ||
          target.plans[c].columns->input_blocks() != decoder_->block_columns(c)) {
        throw py::value_error("a plan is for another number of blocks than the file has");
      }
    }
    return [this, &target, baseline] {
      PixelSink sink(*decoder_, target.plans, target.colours, target.output, decoder_->several_scans(),
                     baseline ? baseline_kernels() : best_kernels());
      decoder_->decode(sink, fast_);
      if (!sink.finished()) throw DecodeError("rows of the picture are missing");
    };
  }

  void resize_pixels(const PixelTarget& target, bool baseline) {
    const auto task = pixels_task(target, baseline);
    const py::gil_scoped_release unlocked;
    task();
  }

 private:
  std::shared_ptr<ResizeSink> resizing(const std::vector<std::shared_ptr<Target>>& targets, bool timed) const {
    if (static_cast<int>(targets.size()) > decoder_->components()) {
      throw py::value_error("more targets than components");
    }
    auto sink = std::make_shared<ResizeSink>();
    sink->components.reserve(targets.size());
    for (size_t c = 0; c < targets.size(); ++c) {
      const Target& target = *targets[c];
      if (target.plans.first->input_blocks() != decoder_->block_rows(static_cast<int>(c)) ||
          target.plans.second->input_blocks() != decoder_->block_columns(static_cast<int>(c))) {
        throw py::value_error("a plan is for another number of blocks than the file has");
      }
      sink->components.emplace_back(*target.plans.first, *target.plans.second, target.bound(), target.input_dc,
                                    best_kernels());
      sink->components.back().timed = timed;
    }
    return sink;
  }

  py::bytes data_;  // the decoder reads from it
  std::unique_ptr<Decoder> decoder_;
  bool fast_;  // false: libjpeg's entropy decoder alone
};

// Many files on several threads, which begin with the first while the others are still being prepared.
class Batch {
 public:
  explicit Batch(int threads) : tasks_(threads) {}

  void add(py::object file, py::object targets) {
    File& opened = file.cast<File&>();
    tasks_.add(py::isinstance<PixelTarget>(targets)
                   ? opened.pixels_task(targets.cast<const PixelTarget&>(), false)
                   : opened.resize_task(targets.cast<std::vector<std::shared_ptr<Target>>>()));
    held_.push_back(std::move(file));
    held_.push_back(std::move(targets));
  }

  // What is wrong with each file, or None.
  py::list finish() {
    std::vector<std::exception_ptr> thrown;
    {
      const py::gil_scoped_release unlocked;
      thrown = tasks_.finish();
    }
    py::list result;
    for (const std::exception_ptr& each : thrown) {
      try {
        if (each) std::rethrow_exception(each);
        result.append(py::none());
      } catch (const DecodeError& error) {
        result.append(py::str(error.what()));
      }
    }
    return result;
  }

 private:
  std::vector<py::object> held_;
  Tasks tasks_;  // which is ended first
};

void resize_plane(const Plane& plane, const Target& target, bool baseline) {
  if (plane.ndim() != 3 || plane.shape(2) != 64 || plane.shape(0) != target.plans.first->input_blocks() ||
      plane.shape(1) != target.plans.second->input_blocks()) {
    throw py::value_error("a plan is for another number of blocks than the plane has");
  }
  ComponentResizer resizer(*target.plans.first, *target.plans.second, target.bound(), target.input_dc,
                           baseline ? baseline_kernels() : best_kernels());
  const int rows = static_cast<int>(plane.shape(0));
  const size_t row_length = static_cast<size_t>(plane.shape(1)) * 64;
  const int16_t* blocks = plane.data();
  static const std::vector<uint16_t> ones(64, 1);  // the plane is dequantised already
  const py::gil_scoped_release unlocked;
  for (int r = 0; r < rows; ++r) resizer.add(r, blocks + r * row_length, ones.data());
  resizer.finish();
}

// Cb and Cr, float32 (rows, columns, 128), turned in their plane into int16 of the same shape.
void turn_chroma(const py::array_t<float, py::array::c_style>& chroma, double degrees, const py::object& steps_in,
                 py::array_t<int16_t> out) {
  if (chroma.ndim() != 3 || chroma.shape(2) != 128 || out.ndim() != 3 || out.shape(0) != chroma.shape(0) ||
      out.shape(1) != chroma.shape(1) || out.shape(2) != 128 || out.strides(2) != out.itemsize()) {
    throw py::value_error("chroma is (rows, columns, 128) with contiguous frequencies, before and after");
  }
  std::vector<float> steps;
  Output cb{};
  if (!steps_in.is_none()) {
    steps = with_inverses(steps_in);
    cb.steps = steps.data();
    cb.inverse_steps = steps.data() + 64;
  }
  cb.gain = 1.0f;
  cb.row_stride = out.strides(0) / out.itemsize();
  cb.column_stride = out.strides(1) / out.itemsize();
  cb.data = out.mutable_data();
  Output cr = cb;
  cr.data = out.mutable_data() + 64;
  const auto cosine = static_cast<float>(std::cos(degrees * M_PI / 180));
  const auto sine = static_cast<float>(std::sin(degrees * M_PI / 180));
  const int rows = static_cast<int>(chroma.shape(0)), columns = static_cast<int>(chroma.shape(1));
  const float* block = chroma.data();
  const py::gil_scoped_release unlocked;
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c, block += 128) {
      best_kernels().turn(block, block + 64, cosine, sine, cb, cr, r, c);
    }
  }
}

}  // namespace
}  // namespace jpegdeep

PYBIND11_MODULE(_native, m) {
  using namespace jpegdeep;
  m.doc() = "libjpeg's coefficients, read and resized without decoding.  Use jpegdeep_torch.jpeg, which checks and explains.";
  py::register_exception<DecodeError>(m, "DecodeError");
  py::class_<AxisPlan, std::shared_ptr<AxisPlan>>(m, "AxisPlan")
      .def(py::init(&make_plan), py::arg("axis"), py::arg("even"), py::arg("to_pixels") = false)
      .def_property_readonly("window", &AxisPlan::window);
  py::class_<Target, std::shared_ptr<Target>>(m, "Target")
      .def(py::init<const Plans&, py::array, const py::object&, float, float, float, bool>(), py::arg("plans"),
           py::arg("array"),
           py::arg("steps") = py::none(), py::arg("input_dc") = 0.0f, py::arg("output_dc") = 0.0f,
           py::arg("gain") = 1.0f, py::arg("transposed") = false);
  py::class_<RowFilter, std::shared_ptr<RowFilter>>(m, "RowFilter").def(py::init(&make_row_filter), py::arg("axis"));
  py::class_<PixelTarget, std::shared_ptr<PixelTarget>>(m, "PixelTarget")
      .def(py::init<const std::vector<std::pair<std::shared_ptr<RowFilter>, std::shared_ptr<AxisPlan>>>&, py::array, int,
                    const Steps&, const Steps&, bool, bool>(),
           py::arg("plans"), py::arg("array"), py::arg("width"), py::arg("matrix"), py::arg("offset"),
           py::arg("channels_first") = false, py::arg("transposed") = false);
  py::class_<File>(m, "File")
      .def(py::init<py::bytes, const std::string&, bool>(), py::arg("data"), py::arg("on_damage") = "error",
           py::arg("fast") = true)
      .def_property_readonly("image_size", &File::image_size)
      .def_property_readonly("sampling", &File::sampling)
      .def_property_readonly("several_scans", &File::several_scans)
      .def_property_readonly("warnings", &File::warnings)
      .def("check", &File::check)
      .def("pixels", &File::pixels, py::arg("transpose") = false, py::arg("flip_vertical") = false,
           py::arg("flip_horizontal") = false)
      .def("read", &File::read, py::arg("threads") = 1)
      .def("resize", &File::resize, py::arg("targets"), py::arg("timed") = false, py::arg("threads") = 1)
      .def("resize_pixels", &File::resize_pixels, py::arg("target"), py::arg("baseline") = false);
  py::class_<Batch>(m, "Batch")
      .def(py::init<int>(), py::arg("threads"))
      .def("add", &Batch::add, py::arg("file"), py::arg("targets"))
      .def("finish", &Batch::finish);
  m.def("resize_plane", &resize_plane, py::arg("plane"), py::arg("target"), py::arg("baseline") = false);
  m.def("turn_chroma", &turn_chroma, py::arg("chroma"), py::arg("degrees"), py::arg("steps"), py::arg("out"));
  m.def("bare_read", [](const py::bytes& data) {
    char* bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data.ptr(), &bytes, &size) != 0) throw py::error_already_set();
    const py::gil_scoped_release unlocked;
    bare_read(reinterpret_cast<const uint8_t*>(bytes), static_cast<size_t>(size));
  }, py::arg("data"));
  bind_headers(m);
  m.def("kernels", [] { return best_kernels().name; });
}
