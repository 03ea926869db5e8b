// The one kernel of the check, in code that the host's compiler reads.
#ifndef CUDA_CHECK_KERNEL_H_
#define CUDA_CHECK_KERNEL_H_

struct KernelRun {
  int error;           // of the first call that failed (cudaError_t), 0 if none did
  const char* call;    // its name
  int wrong;           // how many elements of the result are wrong
  int binary_version;  // the code that ran was compiled for: 53 is sm_53
  int ptx_version;     // the PTX that is in the module: 53 is compute_53
  float milliseconds;  // of the first start, in which a driver may compile PTX
};

// Adds two vectors on the current device and compares each element with what the host finds.
KernelRun RunKernel();

#endif  // CUDA_CHECK_KERNEL_H_
