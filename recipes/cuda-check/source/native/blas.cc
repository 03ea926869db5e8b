// _blas: which cuBLAS there is, and one product of matrices.
#include "native/module.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#ifndef CUBLAS_VER_MAJOR  // before CUDA 10.1, cuBLAS had the toolkit's version
#define CUBLAS_VER_MAJOR (CUDART_VERSION / 1000)
#define CUBLAS_VER_MINOR (CUDART_VERSION % 1000 / 10)
#define CUBLAS_VER_PATCH 0
#endif

namespace {

// What a product of 2 x 2 matrices gave: the first call that failed and its status, or how many elements are wrong.
struct Product {
  const char* call;
  int status;
  int wrong;
};

Product Multiply() {
  // Column by column, as cuBLAS reads them: A = [1 2; 3 4], B = [5 6; 7 8], A B = [19 22; 43 50].
  const float a[] = {1, 3, 2, 4}, b[] = {5, 7, 6, 8}, expected[] = {19, 43, 22, 50};
  const float one = 1.0f, zero = 0.0f;
  float result[4] = {};
  Product product = {"", 0, 4};
  cublasHandle_t handle = nullptr;
  float* memory = nullptr;
  int status = cublasCreate(&handle);
  if (status != CUBLAS_STATUS_SUCCESS) return {"cublasCreate", status, 4};
  if (cudaMalloc(reinterpret_cast<void**>(&memory), 3 * sizeof(a)) != cudaSuccess) {
    product.call = "cudaMalloc";
    product.status = CUBLAS_STATUS_ALLOC_FAILED;
  } else {
    cudaMemcpy(memory, a, sizeof(a), cudaMemcpyHostToDevice);
    cudaMemcpy(memory + 4, b, sizeof(b), cudaMemcpyHostToDevice);
    status = cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, memory, 2, memory + 4, 2, &zero, memory + 8, 2);
    if (status != CUBLAS_STATUS_SUCCESS) {
      product.call = "cublasSgemm";
      product.status = status;
    } else if (cudaMemcpy(result, memory + 8, sizeof(result), cudaMemcpyDeviceToHost) != cudaSuccess) {
      product.call = "cudaMemcpy";
      product.status = CUBLAS_STATUS_EXECUTION_FAILED;
    } else {
      product.wrong = 0;
      for (int i = 0; i < 4; ++i) product.wrong += result[i] != expected[i];
    }
  }
  cudaFree(memory);
  cublasDestroy(handle);
  return product;
}

PyObject* Versions(PyObject*, PyObject*) {
  int major = 0, minor = 0, patch = 0;
  cublasGetProperty(MAJOR_VERSION, &major);
  cublasGetProperty(MINOR_VERSION, &minor);
  cublasGetProperty(PATCH_LEVEL, &patch);
  return Py_BuildValue("{s:[iii],s:[iii]}", "library", major, minor, patch, "compiled", CUBLAS_VER_MAJOR,
                       CUBLAS_VER_MINOR, CUBLAS_VER_PATCH);
}

PyObject* Call(PyObject*, PyObject* arguments) {
  int device = 0;
  if (!PyArg_ParseTuple(arguments, "i", &device)) return nullptr;
  if (cudaSetDevice(device) != cudaSuccess) {
    return Py_BuildValue("{s:s,s:i,s:i}", "call", "cudaSetDevice", "status", 1, "wrong", 4);
  }
  const Product product = Multiply();
  return Py_BuildValue("{s:s,s:i,s:i}", "call", product.call, "status", product.status, "wrong", product.wrong);
}

PyMethodDef methods[] = {
    {"versions", Versions, METH_NOARGS, "The version of cuBLAS."},
    {"call", Call, METH_VARARGS, "Multiplies two matrices on a GPU and compares the result."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

CUDA_CHECK_MODULE(_blas, methods, "What cuBLAS says.")
