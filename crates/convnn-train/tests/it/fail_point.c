/* Preloaded into the trainer: makes the FAIL_AT-th operation that changes something below FAIL_UNDER fail with the error
   number FAIL_WITH, or kills the process there if that is 0. FAIL_MARK is created when it happens.
   With FAIL_FULL, only operations that take space count, and all of them from the FAIL_AT-th on fail: a full disk.
   With NO_LOCKS, the file system has no flock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int count;

static int below(const char *path) {
    const char *under = getenv("FAIL_UNDER");
    return under && path && strncmp(path, under, strlen(under)) == 0;
}

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* Whether this operation is to fail. */
static int fails_if(int is_below, int takes_space) {
    const char *at = getenv("FAIL_AT");
    int full = getenv("FAIL_FULL") != NULL;
    if (!is_below || !at || (full && !takes_space)) return 0;
    int number = __sync_add_and_fetch(&count, 1);
    if (full ? number < atoi(at) : number != atoi(at)) return 0;
    const char *mark = getenv("FAIL_MARK"), *with = getenv("FAIL_WITH");
    if (mark) syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_WRONLY, 0644));
    int error = with ? atoi(with) : 0;
    if (error == 0) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = error;
    return 1;
}

static int fails(int is_below) { return fails_if(is_below, 0); }
static int fails_to_grow(int is_below) { return fails_if(is_below, 1); }

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails_to_grow(below_fd(fd)) ? -1 : NEXT(write)(fd, bytes, length);
}
int fsync(int fd) { return fails(below_fd(fd)) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails(below_fd(fd)) ? -1 : NEXT(fdatasync)(fd); }
int rename(const char *from, const char *to) { return fails(below(to)) ? -1 : NEXT(rename)(from, to); }
int unlink(const char *path) { return fails(below(path)) ? -1 : NEXT(unlink)(path); }
int rmdir(const char *path) { return fails(below(path)) ? -1 : NEXT(rmdir)(path); }
int mkdir(const char *path, mode_t mode) { return fails_to_grow(below(path)) ? -1 : NEXT(mkdir)(path, mode); }
int unlinkat(int folder, const char *path, int flags) {
    int is_below = path[0] == '/' || folder == AT_FDCWD ? below(path) : below_fd(folder);
    return fails(is_below) ? -1 : NEXT(unlinkat)(folder, path, flags);
}
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return fails_to_grow(flags & O_CREAT && below(path)) ? -1 : NEXT(open64)(path, flags, mode);
}
int flock(int fd, int operation) {
    if (getenv("NO_LOCKS")) {
        errno = ENOSYS;
        return -1;
    }
    return syscall(SYS_flock, fd, operation);
}
