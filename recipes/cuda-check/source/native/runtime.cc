// _runtime: what the CUDA runtime says of itself, of the driver and of the GPUs, and one kernel.
#include "native/module.h"

#include <cuda_runtime_api.h>

#include "native/kernel.h"

namespace {

using cuda_check::Put;
using cuda_check::Text;

// None where a call succeeded, else its number, name and text.
PyObject* Error(int number) {
  if (number == 0) Py_RETURN_NONE;
  const cudaError_t error = static_cast<cudaError_t>(number);
  return Py_BuildValue("{s:i,s:s,s:s}", "number", number, "name", cudaGetErrorName(error), "text",
                       cudaGetErrorString(error));
}

PyObject* Device(int number) {
  cudaDeviceProp found;
  const cudaError_t error = cudaGetDeviceProperties(&found, number);
  if (error != cudaSuccess) return Py_BuildValue("{s:i,s:N}", "number", number, "error", Error(error));
  return Py_BuildValue("{s:i,s:s,s:[ii],s:n,s:N,s:O}", "number", number, "name", found.name, "capability",
                       found.major, found.minor, "memory", static_cast<Py_ssize_t>(found.totalGlobalMem), "integrated",
                       PyBool_FromLong(found.integrated), "error", Py_None);
}

PyObject* Versions(PyObject*, PyObject*) {
  int driver = 0, runtime = 0;
  const cudaError_t of_driver = cudaDriverGetVersion(&driver);
  const cudaError_t of_runtime = cudaRuntimeGetVersion(&runtime);
  const int error = of_runtime != cudaSuccess ? of_runtime : of_driver;
  return Py_BuildValue("{s:i,s:i,s:i,s:N}", "driver", driver, "runtime", runtime, "compiled", CUDART_VERSION, "error",
                       Error(error));
}

PyObject* Devices(PyObject*, PyObject*) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  PyObject* found = PyList_New(0);
  if (found == nullptr) return nullptr;
  for (int number = 0; error == cudaSuccess && number < count; ++number) {
    PyObject* device = Device(number);
    if (device == nullptr || PyList_Append(found, device) != 0) {
      Py_XDECREF(device);
      Py_DECREF(found);
      return nullptr;
    }
    Py_DECREF(device);
  }
  return Py_BuildValue("{s:N,s:N}", "devices", found, "error", Error(error));
}

PyObject* Kernel(PyObject*, PyObject* arguments) {
  int device = 0;
  if (!PyArg_ParseTuple(arguments, "i", &device)) return nullptr;
  const cudaError_t chosen = cudaSetDevice(device);
  if (chosen != cudaSuccess) return Py_BuildValue("{s:s,s:N}", "call", "cudaSetDevice", "error", Error(chosen));
  const KernelRun run = RunKernel();
  return Py_BuildValue("{s:s,s:i,s:i,s:i,s:f,s:N}", "call", run.call, "wrong", run.wrong, "binary_version",
                       run.binary_version, "ptx_version", run.ptx_version, "milliseconds", run.milliseconds, "error",
                       Error(run.error));
}

PyMethodDef methods[] = {
    {"versions", Versions, METH_NOARGS, "The versions of the driver (0: there is none) and of the runtime."},
    {"devices", Devices, METH_NOARGS, "The GPUs."},
    {"kernel", Kernel, METH_VARARGS, "Runs a kernel on a GPU and compares its result."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

CUDA_CHECK_MODULE(_runtime, methods, "What the CUDA runtime says.")
