#include <hello.h>
#include <stdio.h>

int main(void) {
    printf("used %s\n", hello());
    return 0;
}
