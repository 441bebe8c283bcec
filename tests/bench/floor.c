/* The floor: what a request costs with no logic around it. Two threads, each with its own listener and
 * epoll; a request is recv, openat, fstat, send (and sendfile), close. It trusts its client: only for
 * measuring. Usage: floor DIRECTORY PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 2
#define CONNECTIONS 65536
#define SMALL (16 * 1024)
/* Half of what leaves in two calls: see SEGMENT_SIZE in host/server/src/stream.rs. */
#define SEGMENT (60 * 1024)

static int root;
static int port;

/* A file on its way to a client that takes it slowly. */
static struct { int file; off_t offset, size; size_t step; int close; } sending[CONNECTIONS];

static int end_response(int client, int close_after) {
    if (close_after) close(client);
    return close_after;
}

static void send_file(int epoll, int client) {
    while (sending[client].offset < sending[client].size) {
        if (sendfile(client, sending[client].file, &sending[client].offset, sending[client].step) <= 0) {
            if (errno != EAGAIN) {
                close(sending[client].file);
                sending[client].file = 0;
                close(client);
                return;
            }
            struct epoll_event event = {.events = EPOLLOUT, .data.fd = client};
            epoll_ctl(epoll, EPOLL_CTL_MOD, client, &event);
            return;
        }
    }
    close(sending[client].file);
    sending[client].file = 0;
    if (!end_response(client, sending[client].close)) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = client};
        epoll_ctl(epoll, EPOLL_CTL_MOD, client, &event);
    }
}

static void answer(int epoll, int client, char *request, ssize_t length) {
    request[length] = 0;
    char *path = request + 5, *end = strchr(path, ' ');
    int close_after = strstr(end + 1, "Connection: close") != NULL;
    *end = 0;
    int file = openat(root, path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    fstat(file, &stat);
    char response[SMALL + 512];
    int head = sprintf(response,
        "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-type: text/plain\r\nContent-Length: %lld\r\n"
        "Last-Modified: Sun, 13 Sep 2020 12:26:40 GMT\r\nDate: Sun, 13 Sep 2020 12:26:40 GMT\r\n\r\n",
        (long long)stat.st_size);
    if (stat.st_size <= SMALL) {
        head += pread(file, response + head, SMALL, 0);
        send(client, response, head, MSG_NOSIGNAL);
        close(file);
        end_response(client, close_after);
        return;
    }
    send(client, response, head, MSG_MORE | MSG_NOSIGNAL);
    sending[client].file = file;
    sending[client].offset = 0;
    sending[client].size = stat.st_size;
    sending[client].step = stat.st_size <= 2 * SEGMENT ? SEGMENT : 1 << 20;
    sending[client].close = close_after;
    send_file(epoll, client);
}

static void *serve(void *unused) {
    (void)unused;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) exit(1);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[64];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    char request[4096];
    for (;;) {
        int count = epoll_wait(epoll, ready, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                int client;
                while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    struct epoll_event in = {.events = EPOLLIN, .data.fd = client};
                    epoll_ctl(epoll, EPOLL_CTL_ADD, client, &in);
                }
            } else if (sending[fd].file) {
                send_file(epoll, fd);
            } else {
                ssize_t length = recv(fd, request, sizeof request - 1, 0);
                if (length > 0) answer(epoll, fd, request, length);
                else close(fd);
            }
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    root = open(argv[1], O_PATH | O_DIRECTORY);
    port = atoi(argv[2]);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, serve, NULL);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    return 0;
}
