// _dnn: which cuDNN there is, and one activation.
#include "native/module.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>

namespace {

struct Activation {
  const char* call;
  int status;
  int wrong;
};

// max(0, x) of four numbers. Of cuDNN 5 to 9 this call takes the same arguments.
Activation Rectify() {
  const float input[] = {-2, -1, 1, 2}, expected[] = {0, 0, 1, 2};
  const float one = 1.0f, zero = 0.0f;
  float result[4] = {-1, -1, -1, -1};
  cudnnHandle_t handle = nullptr;
  cudnnTensorDescriptor_t shape = nullptr;
  cudnnActivationDescriptor_t kind = nullptr;
  float* memory = nullptr;
  Activation found = {"cudnnCreate", cudnnCreate(&handle), 4};
  const auto did = [&found](const char* call, int status) {
    found.call = call;
    found.status = status;
    return status == CUDNN_STATUS_SUCCESS;
  };
  if (found.status == CUDNN_STATUS_SUCCESS && did("cudnnCreateTensorDescriptor", cudnnCreateTensorDescriptor(&shape)) &&
      did("cudnnSetTensor4dDescriptor",
          cudnnSetTensor4dDescriptor(shape, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 1, 1, 2, 2)) &&
      did("cudnnCreateActivationDescriptor", cudnnCreateActivationDescriptor(&kind)) &&
      did("cudnnSetActivationDescriptor",
          cudnnSetActivationDescriptor(kind, CUDNN_ACTIVATION_RELU, CUDNN_PROPAGATE_NAN, 0.0)) &&
      did("cudaMalloc", cudaMalloc(reinterpret_cast<void**>(&memory), sizeof(input)) == cudaSuccess
                            ? CUDNN_STATUS_SUCCESS
                            : CUDNN_STATUS_ALLOC_FAILED)) {
    cudaMemcpy(memory, input, sizeof(input), cudaMemcpyHostToDevice);
    if (did("cudnnActivationForward", cudnnActivationForward(handle, kind, &one, shape, memory, &zero, shape, memory)) &&
        cudaMemcpy(result, memory, sizeof(result), cudaMemcpyDeviceToHost) == cudaSuccess) {
      found.wrong = 0;
      for (int i = 0; i < 4; ++i) found.wrong += result[i] != expected[i];
    }
  }
  if (found.status == CUDNN_STATUS_SUCCESS) found.call = "";
  cudaFree(memory);
  if (kind != nullptr) cudnnDestroyActivationDescriptor(kind);
  if (shape != nullptr) cudnnDestroyTensorDescriptor(shape);
  if (handle != nullptr) cudnnDestroy(handle);
  return found;
}

PyObject* Versions(PyObject*, PyObject*) {
  return Py_BuildValue("{s:k,s:k,s:k}", "library", static_cast<unsigned long>(cudnnGetVersion()), "compiled",
                       static_cast<unsigned long>(CUDNN_VERSION), "cuda",
                       static_cast<unsigned long>(cudnnGetCudartVersion()));
}

PyObject* Call(PyObject*, PyObject* arguments) {
  int device = 0;
  if (!PyArg_ParseTuple(arguments, "i", &device)) return nullptr;
  if (cudaSetDevice(device) != cudaSuccess) {
    return Py_BuildValue("{s:s,s:i,s:s,s:i}", "call", "cudaSetDevice", "status", 1, "text", "", "wrong", 4);
  }
  const Activation found = Rectify();
  return Py_BuildValue("{s:s,s:i,s:s,s:i}", "call", found.call, "status", found.status, "text",
                       cudnnGetErrorString(static_cast<cudnnStatus_t>(found.status)), "wrong", found.wrong);
}

PyMethodDef methods[] = {
    {"versions", Versions, METH_NOARGS, "The version of cuDNN, and that of the CUDA it was made with."},
    {"call", Call, METH_VARARGS, "Runs an activation on a GPU and compares the result."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

CUDA_CHECK_MODULE(_dnn, methods, "What cuDNN says.")
