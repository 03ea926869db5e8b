/* In the place of glibc's header for nvcc, whose cudafe++ does not know the vector types of aarch64: without the
   declarations of vector functions, as every glibc before 2.38 has it. */
#include <bits/libm-simd-decl-stubs.h>
