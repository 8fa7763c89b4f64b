/* A share whose server dies and comes back: a FUSE filesystem that answers, or does not.
 *
 * deadfuse FOLDER ignore|swallow [alive] [SENTINEL]
 *
 * ignore    while it is dead it does not even take requests: whoever asks waits, and can be killed
 * swallow   while it is dead it takes requests and answers none: whoever asks cannot be killed
 *
 * It begins dead, after the handshake, unless it is told `alive`. SIGUSR1 makes it answer, what it has swallowed too;
 * SIGUSR2 makes it dead; SIGHUP makes it answer that it knows the folder no more (ESTALE). It has one file at most, the
 * sentinel, and takes no writes. It never daemonises; kill it, and everybody who waits gets an error. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_NODE = 2, KEPT = 1024 };

static volatile sig_atomic_t state = SIGUSR2;
static const char *sentinel = NULL;
static int fd;

static struct request {
    struct fuse_in_header header;
    char name[64];
    uint64_t offset;
} kept[KEPT];
static int held = 0;

static void turn(int signal) { state = signal; }

static void say(uint64_t unique, int error, const void *body, size_t length) {
    char answer[4096];
    struct fuse_out_header header = {sizeof header + length, error, unique};
    memcpy(answer, &header, sizeof header);
    if (length > 0) memcpy(answer + sizeof header, body, length);
    if (write(fd, answer, header.len) < 0 && errno != ENOENT) perror("answer");
}

static struct fuse_attr attributes(uint64_t node) {
    struct fuse_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.ino = node;
    attr.mode = node == FILE_NODE ? S_IFREG | 0444 : S_IFDIR | 0755;
    attr.nlink = 1;
    return attr;
}

static void look_up(const struct request *asked) {
    struct fuse_entry_out entry;
    memset(&entry, 0, sizeof entry);
    if (sentinel == NULL || strcmp(asked->name, sentinel) != 0) {
        say(asked->header.unique, -ENOENT, NULL, 0);
        return;
    }
    entry.nodeid = FILE_NODE;
    entry.attr = attributes(FILE_NODE);
    say(asked->header.unique, 0, &entry, sizeof entry);
}

static void list(const struct request *asked) {
    char entry[128];
    struct fuse_dirent head = {FILE_NODE, 1, 0, S_IFREG >> 12};
    if (sentinel == NULL || asked->offset > 0) {
        say(asked->header.unique, 0, NULL, 0);
        return;
    }
    memset(entry, 0, sizeof entry);
    head.namelen = strlen(sentinel);
    memcpy(entry, &head, sizeof head);
    memcpy(entry + FUSE_NAME_OFFSET, sentinel, head.namelen);
    say(asked->header.unique, 0, entry, FUSE_DIRENT_SIZE(&head));
}

static void answer(const struct request *asked) {
    const struct fuse_in_header *header = &asked->header;
    struct fuse_attr_out attr;
    struct fuse_open_out open;
    memset(&attr, 0, sizeof attr);
    memset(&open, 0, sizeof open);
    attr.attr = attributes(header->nodeid);
    switch (header->opcode) {
    case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: return;
    case FUSE_GETATTR:
        if (state == SIGHUP) say(header->unique, -ESTALE, NULL, 0);
        else say(header->unique, 0, &attr, sizeof attr);
        return;
    case FUSE_LOOKUP: look_up(asked); return;
    case FUSE_OPENDIR: say(header->unique, 0, &open, sizeof open); return;
    case FUSE_READDIR: list(asked); return;
    case FUSE_RELEASEDIR: say(header->unique, 0, NULL, 0); return;
    case FUSE_CREATE: case FUSE_MKNOD: case FUSE_UNLINK: say(header->unique, -EROFS, NULL, 0); return;
    default: say(header->unique, -ENOSYS, NULL, 0);
    }
}

static void shake_hands(const struct fuse_in_header *request) {
    struct fuse_init_out init;
    memset(&init, 0, sizeof init);
    init.major = FUSE_KERNEL_VERSION;
    init.minor = 31;
    init.max_write = 65536;
    say(request->unique, 0, &init, sizeof init);
}

static void take(const char *bytes, ssize_t length) {
    struct request asked;
    const char *body = bytes + sizeof asked.header;
    if (length < (ssize_t)sizeof asked.header) return;
    memset(&asked, 0, sizeof asked);
    memcpy(&asked.header, bytes, sizeof asked.header);
    if (asked.header.opcode == FUSE_INIT) {
        shake_hands(&asked.header);
        return;
    }
    if (asked.header.opcode == FUSE_LOOKUP) strncpy(asked.name, body, sizeof asked.name - 1);
    if (asked.header.opcode == FUSE_READDIR) asked.offset = ((const struct fuse_read_in *)body)->offset;
    if (state == SIGUSR2) {
        if (held < KEPT) kept[held++] = asked;
    } else {
        answer(&asked);
    }
}

int main(int count, char **args) {
    static char bytes[1 << 17];
    char options[128];
    if (count < 3) return 64;
    int ignore = strcmp(args[2], "ignore") == 0, shaken = 0;
    signal(SIGUSR1, turn);
    signal(SIGUSR2, turn);
    signal(SIGHUP, turn);
    if (count > 3 && strcmp(args[3], "alive") == 0) state = SIGUSR1;
    if (count > 4) sentinel = args[4];
    fd = open("/dev/fuse", O_RDWR | O_NONBLOCK);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
    if (fd < 0 || mount("dead", args[1], "fuse.dead", 0, options) < 0) {
        perror("mount");
        return 1;
    }
    for (;;) {
        struct pollfd ready = {fd, POLLIN, 0};
        if (state != SIGUSR2) {
            while (held > 0) answer(&kept[--held]);
        } else if (ignore && shaken) {
            usleep(10000);
            continue;
        }
        poll(&ready, 1, 20);
        ssize_t length = read(fd, bytes, sizeof bytes);
        if (length < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT) return 0;
        if (length >= 0) take(bytes, length);
        shaken |= length > 0;
    }
}
