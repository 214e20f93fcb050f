// The parts of the Python module.
#pragma once

#include <pybind11/pybind11.h>

namespace jpegdeep {

void bind_headers(pybind11::module_& m);  // header_module.cpp

}  // namespace jpegdeep
