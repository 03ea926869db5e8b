use: use.c
	$(CC) -o $@ $< $$(pkg-config --cflags --libs hello) -Wl,-rpath,'$(BUNDLE)/lib'
