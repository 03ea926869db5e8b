#include <cuda_runtime.h>

#include <vector>

#include "native/kernel.h"

namespace {

constexpr int kElements = 1 << 16;

__global__ void Add(const float* a, const float* b, float* sum, int count) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count) sum[at] = a[at] + b[at];
}

// The calls one after the other, as long as they succeed.
class Calls {
 public:
  explicit Calls(KernelRun* run) : run_(run) {}

  bool Did(cudaError_t error, const char* call) {
    if (error == cudaSuccess) return true;
    if (run_->error == 0) {
      run_->error = static_cast<int>(error);
      run_->call = call;
    }
    return false;
  }

 private:
  KernelRun* run_;
};

// Memory of the device, freed when it goes out of scope.
class Buffer {
 public:
  ~Buffer() { cudaFree(data_); }
  cudaError_t Allocate(int count) { return cudaMalloc(&data_, count * sizeof(float)); }
  float* get() const { return static_cast<float*>(data_); }

 private:
  void* data_ = nullptr;
};

}  // namespace

KernelRun RunKernel() {
  KernelRun run = {0, "", kElements, 0, 0, 0.0f};
  Calls calls(&run);

  std::vector<float> a(kElements), b(kElements), sum(kElements, -1.0f);
  for (int i = 0; i < kElements; ++i) {
    a[i] = 0.5f * i;
    b[i] = 2.0f * i;
  }
  const size_t bytes = kElements * sizeof(float);
  Buffer device_a, device_b, device_sum;
  cudaFuncAttributes attributes;
  cudaEvent_t before = nullptr, after = nullptr;

  const bool prepared =
      calls.Did(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(Add)), "cudaFuncGetAttributes") &&
      calls.Did(device_a.Allocate(kElements), "cudaMalloc") && calls.Did(device_b.Allocate(kElements), "cudaMalloc") &&
      calls.Did(device_sum.Allocate(kElements), "cudaMalloc") &&
      calls.Did(cudaMemcpy(device_a.get(), a.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy") &&
      calls.Did(cudaMemcpy(device_b.get(), b.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy") &&
      calls.Did(cudaEventCreate(&before), "cudaEventCreate") && calls.Did(cudaEventCreate(&after), "cudaEventCreate");
  if (!prepared) return run;
  run.binary_version = attributes.binaryVersion;
  run.ptx_version = attributes.ptxVersion;

  cudaEventRecord(before);
  Add<<<(kElements + 255) / 256, 256>>>(device_a.get(), device_b.get(), device_sum.get(), kElements);
  const bool started = calls.Did(cudaGetLastError(), "the kernel's start");
  cudaEventRecord(after);
  const bool ran = started && calls.Did(cudaDeviceSynchronize(), "cudaDeviceSynchronize") &&
                   calls.Did(cudaMemcpy(sum.data(), device_sum.get(), bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  if (ran) {
    cudaEventElapsedTime(&run.milliseconds, before, after);
    run.wrong = 0;
    for (int i = 0; i < kElements; ++i) run.wrong += sum[i] != a[i] + b[i];
  }
  cudaEventDestroy(before);
  cudaEventDestroy(after);
  return run;
}
