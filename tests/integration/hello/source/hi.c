/* Says hello, or becomes another program. */
#include <stdio.h>
#include <unistd.h>

#include "hello.h"

int main(int count, char **words) {
    if (count > 1) {
        execl(words[1], words[1], (char *)0);
        perror(words[1]);
        return 1;
    }
    puts(hello());
    return 0;
}
