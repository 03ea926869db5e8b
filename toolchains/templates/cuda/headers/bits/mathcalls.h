/* Before glibc's header for nvcc: CUDA declares sinpi and cospi itself, and otherwise than glibc does since 2.41. So
   the functions of TS 18661-4 that C23 took over are not declared, as in every glibc before. */
#undef __GLIBC_USE_IEC_60559_FUNCS_EXT_C23
#define __GLIBC_USE_IEC_60559_FUNCS_EXT_C23 0
#include_next <bits/mathcalls.h>
