# Finds the library as its users do.
libc: libc.c
	$(CC) -std=c99 -O1 -o $@ $< $$(pkg-config --cflags --libs tensorflow) -Wl,-rpath,'$(BUNDLE)/lib'
