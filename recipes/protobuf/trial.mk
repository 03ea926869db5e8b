library: library.cc
	$(CXX) -std=c++11 -O1 -I$(BUNDLE)/include -o $@ $< $(BUNDLE)/lib/libprotobuf.a -lpthread
