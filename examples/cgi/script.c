/* A CGI script as WebAssembly, in C: a core module of WASI preview 1, run by `sandserve --cgi`.
 *
 *     zig cc -target wasm32-wasi -Os script.c -o site/cgi-bin/script.wasm
 *
 * or with the clang of wasi-sdk and no target. */

#include <stdio.h>
#include <stdlib.h>

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

int main(int argc, char **argv) {
    printf("Content-Type: text/plain\r\n\r\n");
    printf("%s %s\n", variable("REQUEST_METHOD"), variable("SCRIPT_NAME"));
    printf("path info: %s\n", variable("PATH_INFO"));
    printf("query: %s\n", variable("QUERY_STRING"));
    for (int at = 1; at < argc; at++)
        printf("argument: %s\n", argv[at]);
    printf("content: ");
    for (int byte; (byte = getchar()) != EOF;)
        putchar(byte);
    putchar('\n');
    return 0;
}
