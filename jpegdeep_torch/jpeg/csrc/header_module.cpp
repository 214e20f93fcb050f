// Headers for Python: of ordinary files, in a few microseconds.
#include "header.h"
#include "module.h"

namespace py = pybind11;

namespace jpegdeep {
namespace {

// What markers.JpegHeader is made of, or None where there is anything unusual.
py::object ordinary_header(const py::bytes& data) {
  char* bytes;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(data.ptr(), &bytes, &size) != 0) throw py::error_already_set();
  Header header;
  if (!parse_header(reinterpret_cast<const uint8_t*>(bytes), static_cast<size_t>(size), header)) return py::none();
  // One that speaks of restart markers and has none is read as one that does not speak of them (header.py).
  if (header.restart_interval != 0 && !header.restarts_follow) return py::none();
  py::tuple ids(header.components), sampling(header.components);
  for (int c = 0; c < header.components; ++c) {
    ids[c] = header.component[c].id;
    sampling[c] = py::make_tuple(header.component[c].horizontal, header.component[c].vertical);
  }
  py::object exif = py::none(), adobe = py::none();
  if (header.exif_end != 0) {
    exif = py::bytes(bytes + header.exif_start, header.exif_end - header.exif_start);
  }
  if (header.adobe >= 0) adobe = py::int_(header.adobe);
  return py::make_tuple(py::make_tuple(header.height, header.width), ids, sampling, header.progressive,
                        header.several_scans(), header.jfif, adobe, exif, header.scan.data_start);
}

}  // namespace

void bind_headers(py::module_& m) { m.def("ordinary_header", &ordinary_header, py::arg("data")); }

}  // namespace jpegdeep
