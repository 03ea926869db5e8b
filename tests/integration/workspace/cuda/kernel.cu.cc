#include "tensorflow/machine.h"

#ifndef NVCC
#error "no nvcc"
#endif

extern "C" const char* kernel() { return "compiled by nvcc for " MACHINE; }
