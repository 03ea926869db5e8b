#include "hello.h"

const char *hello(void) { return "hello 1.2.3"; }
