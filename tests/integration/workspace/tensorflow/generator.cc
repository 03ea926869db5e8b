#include <iostream>

#include "tensorflow/machine.h"

int main() {
  std::cout << "#define GENERATOR \"" MACHINE "\"\n#define GENERATOR_LIBRARY \"" << ops_machine() << "\"\n";
  return 0;
}
