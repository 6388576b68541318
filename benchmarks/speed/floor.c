/* The floor of benchmarks.serving: HTTP that reads no more than it must, and gives one fixed answer.
   usage: floor PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MOST = 4096, READ = 1 << 18 };

/* What is left of the request that is being read: its head so far, or bytes of its body. */
struct connection {
    char head[MOST];
    size_t length, body_left;
};

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 55\r\n\r\n"
                             "{\"actions\":[{\"throttle\":0.5,\"brake\":0.0,\"steer\":-0.1}]}";

static void answer(int fd) {
    if (write(fd, ANSWER, sizeof ANSWER - 1) < 0) return;
}

/* Takes bytes as they come; 0 when the connection is to be closed. */
static int take(int fd, struct connection *c, const char *bytes, size_t count) {
    while (count) {
        if (c->body_left) {
            size_t part = count < c->body_left ? count : c->body_left;
            c->body_left -= part, bytes += part, count -= part;
            if (!c->body_left) answer(fd);
            continue;
        }
        size_t before = c->length, room = MOST - 1 - before, part = count < room ? count : room;
        if (!part) return 0;
        memcpy(c->head + before, bytes, part);
        c->head[c->length += part] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) { bytes += part, count -= part; continue; }
        size_t head = end + 4 - c->head;
        char *field = strcasestr(c->head, "\r\ncontent-length:");
        c->body_left = field && field < end ? strtoul(field + 17, NULL, 10) : 0;
        bytes += head - before, count -= head - before, c->length = 0;
        if (!c->body_left) answer(fd);
    }
    return 1;
}

int main(int count, char **arguments) {
    if (count != 2) return fputs("usage: floor PORT\n", stderr), 2;
    int one = 1, door = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (void *)&address, sizeof address) || listen(door, 1024)) return perror("floor"), 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = door}, events[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, door, &event);
    static struct connection *known[1 << 16];
    static char bytes[READ];
    for (;;) {
        int ready = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == door) {
                if ((fd = accept(door, NULL, NULL)) < 0 || fd >= 1 << 16) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                known[fd] = calloc(1, sizeof **known);
                event.data.fd = fd;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                continue;
            }
            ssize_t got = read(fd, bytes, READ);
            if (got <= 0 || !take(fd, known[fd], bytes, got)) close(fd), free(known[fd]);
        }
    }
}
