// Reads a set of descriptors with libprotobuf and writes it again.
#include <google/protobuf/descriptor.pb.h>

#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

int main(int count, char** words) {
  if (count != 2) return 2;
  std::ifstream stream(words[1], std::ios::binary);
  std::stringstream bytes;
  bytes << stream.rdbuf();
  google::protobuf::FileDescriptorSet files;
  if (!files.ParseFromString(bytes.str()) || files.file_size() == 0) {
    std::cout << "no set of descriptors" << std::endl;
    return 1;
  }
  std::string again;
  files.SerializeToString(&again);
  std::cout << files.file_size() << " files, the last with " << files.file(files.file_size() - 1).message_type_size()
            << " messages; written again: " << (again == bytes.str() ? "the same bytes" : "other bytes") << std::endl;
  return 0;
}
