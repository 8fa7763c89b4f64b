/* A share whose server is dead: a FUSE filesystem that answers the handshake and nothing else.
 *
 * deadfuse FOLDER ignore    does not even take requests: whoever asks waits, and can be killed
 * deadfuse FOLDER swallow   takes requests and never answers: whoever asks cannot be killed
 *
 * It never daemonises; kill it, and everybody who waits gets an error. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

struct handshake {
    struct fuse_out_header header;
    struct fuse_init_out init;
};

static void shake_hands(int fd, const struct fuse_in_header *request) {
    struct handshake answer;
    memset(&answer, 0, sizeof answer);
    answer.header.len = sizeof answer;
    answer.header.unique = request->unique;
    answer.init.major = FUSE_KERNEL_VERSION;
    answer.init.minor = 31;
    answer.init.max_write = 65536;
    if (write(fd, &answer, sizeof answer) < 0) perror("answer");
}

int main(int count, char **args) {
    static char request[1 << 17];
    char options[128];
    if (count != 3) return 64;
    int fd = open("/dev/fuse", O_RDWR);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
    if (fd < 0 || mount("dead", args[1], "fuse.dead", 0, options) < 0) {
        perror("mount");
        return 1;
    }
    for (;;) {
        ssize_t length = read(fd, request, sizeof request);
        if (length < 0 && errno != EINTR) return 0;
        const struct fuse_in_header *header = (const void *)request;
        if (length >= (ssize_t)sizeof *header && header->opcode == FUSE_INIT) {
            shake_hands(fd, header);
            while (strcmp(args[2], "ignore") == 0) pause();
        }
    }
}
