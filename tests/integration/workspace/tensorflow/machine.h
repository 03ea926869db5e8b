#ifndef MACHINE_H
#define MACHINE_H

#if defined(__aarch64__)
#define MACHINE "aarch64"
#elif defined(__x86_64__)
#define MACHINE "x86_64"
#endif

const char* framework_machine();
const char* ops_machine();

#endif
