/*
 * A disk that fails when a test says so: preloaded into a process (LD_PRELOAD), it stands between the process and the
 * files below one folder. What it does is in a control file that the test and the process both have in memory, so that
 * it can be changed, and the counts can be read, while the process runs and after it was killed. disk.rs is its other half.
 *
 * Syncs are not passed on: to a process that is killed they make no difference, and what a power cut would take away is
 * worked out here, from what was written since the last of them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE = 1, SYNC = 2, READ = 4, TRUNCATE = 8 };
enum action { NOTHING, KILL_BEFORE, KILL_AFTER, KILL_TORN, FAIL_ONCE, FAIL_ON };
enum loss { KEEP, LOSE_ALL, LOSE_SOME };
enum where { ANY_FILE, DATABASE, LOG };

/* Eight bytes each, in this order: disk.rs writes them by their number. */
struct control {
    volatile uint64_t calls;    /* 0: calls counted, of the kinds in `mask`, on the files of `where` */
    volatile uint64_t fired;    /* 1: how often the action was taken */
    volatile uint64_t action;   /* 2 */
    volatile uint64_t at;       /* 3: the call at which it is taken, from 1 */
    volatile uint64_t mask;     /* 4 */
    volatile uint64_t error;    /* 5: the errno of a failure */
    volatile uint64_t loss;     /* 6: what becomes of un-synced writes at a kill */
    volatile uint64_t seed;     /* 7 */
    volatile uint64_t where;    /* 8 */
    volatile int64_t clock_ms;  /* 9: added to the time of day */
    volatile uint64_t last;     /* 10: kind of the call at which the action was taken, and 16 times its file's kind */
    volatile uint64_t syncs;    /* 11 */
    volatile uint64_t lost;     /* 12: un-synced changes taken away at the kill */
    volatile uint64_t lies;     /* 13: syncs are answered well and do nothing */
    volatile uint64_t read_only; /* 14: nothing in the folder opens to be written */
    volatile uint64_t no_threads; /* 15: the system gives no new ones */
    volatile uint64_t refused_threads; /* 16 */
};

#define FILES 65536

struct change {
    struct change *next;
    dev_t dev;
    ino_t ino;
    int fd, truncates, keep;
    off_t offset, size_before;
    size_t old_length, new_length;
    char *old, *new;
};

static struct control nobody, *control = &nobody;
static char folder[4096];
static unsigned char tracked[FILES]; /* 0: not ours, else 1 + enum where, 9: shared memory */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct change *changes; /* newest first */

static ssize_t raw_pwrite(int fd, const void *b, size_t n, off_t o) { return syscall(SYS_pwrite64, fd, b, n, o); }
static ssize_t raw_pread(int fd, void *b, size_t n, off_t o) { return syscall(SYS_pread64, fd, b, n, o); }

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("BILLOW_DISK_CONTROL"), *dir = getenv("BILLOW_DISK_FOLDER");
    if (!path || !dir) return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) _exit(97);
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) _exit(97);
    control = memory;
    if (!realpath(dir, folder)) _exit(97);
}

static int ends(const char *text, const char *ending) {
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcmp(text + n - m, ending);
}

static void opened(int fd) {
    if (fd < 0 || fd >= FILES || !folder[0]) return;
    char link[64], path[4096];
    char *end = link + sizeof link - 1;
    *end = 0;
    int n = fd;
    do *--end = '0' + n % 10; while (n /= 10);
    end -= 14;
    memcpy(end, "/proc/self/fd/", 14);
    ssize_t length = readlink(end, path, sizeof path - 1);
    tracked[fd] = 0;
    if (length <= 0) return;
    path[length] = 0;
    size_t prefix = strlen(folder);
    if (strncmp(path, folder, prefix) || path[prefix] != '/') return;
    tracked[fd] = ends(path, "-shm") ? 9 : ends(path, "-wal") ? 1 + LOG : ends(path, ".db") ? 1 + DATABASE : 1 + ANY_FILE;
}

static int ours(int fd) { return fd >= 0 && fd < FILES && tracked[fd]; }

static void restore(struct change *c) {
    raw_pwrite(c->fd, c->old, c->old_length, c->offset);
    syscall(SYS_ftruncate, c->fd, c->size_before);
}

/* Works out what a power cut leaves of the un-synced changes, and ends the process. */
static void die(void) {
    if (control->loss != KEEP) {
        uint64_t seed = control->seed | 1;
        struct change *oldest_first = NULL;
        for (struct change *c = changes; c; c = c->next) restore(c);
        for (struct change *c = changes, *next; c; c = next) {
            next = c->next;
            c->next = oldest_first;
            oldest_first = c;
        }
        for (struct change *c = oldest_first; c; c = c->next) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            if (control->loss == LOSE_ALL || seed % 2) { control->lost++; continue; }
            if (c->truncates) syscall(SYS_ftruncate, c->fd, c->offset);
            else raw_pwrite(c->fd, c->new, c->new_length, c->offset);
        }
    }
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts a call. Answers whether it fails; errno is set then. `torn` is set when half of a write is to be done, then death;
   `after` when death follows the call. The lock is held by the caller. */
static int meets(int fd, enum kind kind, int *torn, int *after) {
    if (!(control->mask & kind) || tracked[fd] == 9) return 0;
    if (control->where != ANY_FILE && tracked[fd] != 1 + control->where) return 0;
    uint64_t call = ++control->calls;
    uint64_t action = control->action;
    if (action == NOTHING || call < control->at || (call > control->at && action != FAIL_ON)) return 0;
    control->fired++;
    control->last = kind + 16 * (tracked[fd] - 1);
    switch (action) {
    case KILL_BEFORE: die(); return 0;
    case KILL_AFTER: *after = 1; return 0;
    case KILL_TORN: if (kind == WRITE) *torn = 1; else die(); return 0;
    default: errno = (int)control->error; return 1;
    }
}

/* A descriptor that stays: closing one would give up the process's locks on the file. */
static int own_fd(int fd, const struct stat *file) {
    static struct { dev_t dev; ino_t ino; int fd; } known[64];
    static int count;
    for (int i = 0; i < count; i++)
        if (known[i].dev == file->st_dev && known[i].ino == file->st_ino) return known[i].fd;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (count < 64) known[count].dev = file->st_dev, known[count].ino = file->st_ino, known[count++].fd = own;
    return own;
}

static void note(int fd, off_t offset, const void *new, size_t length, int truncates) {
    struct stat now;
    if (control->loss == KEEP || tracked[fd] == 9 || fstat(fd, &now)) return;
    struct change *c = calloc(1, sizeof *c);
    c->dev = now.st_dev, c->ino = now.st_ino, c->size_before = now.st_size, c->offset = offset, c->truncates = truncates;
    c->fd = own_fd(fd, &now);
    size_t old = truncates ? (now.st_size > offset ? now.st_size - offset : 0) : length;
    c->old = malloc(old ? old : 1);
    ssize_t got = raw_pread(fd, c->old, old, offset);
    c->old_length = got > 0 ? got : 0;
    c->new_length = truncates ? 0 : length;
    c->new = malloc(length ? length : 1);
    if (!truncates) memcpy(c->new, new, length);
    c->next = changes;
    changes = c;
}

static void forget(int fd) {
    struct stat now;
    if (fstat(fd, &now)) return;
    for (struct change **at = &changes; *at;) {
        struct change *c = *at;
        if (c->dev == now.st_dev && c->ino == now.st_ino) {
            *at = c->next;
                free(c->old), free(c->new), free(c);
        } else at = &c->next;
    }
}

static ssize_t written(int fd, const void *buffer, size_t length, off_t offset) {
    int torn = 0, after = 0;
    ssize_t done = -1;
    pthread_mutex_lock(&lock);
    if (!meets(fd, WRITE, &torn, &after)) {
        size_t now = torn ? length / 2 : length;
        note(fd, offset, buffer, now, 0);
        done = raw_pwrite(fd, buffer, now, offset);
        if (torn || after) die();
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *buffer, size_t length, off_t offset) {
    return ours(fd) ? written(fd, buffer, length, offset) : raw_pwrite(fd, buffer, length, offset);
}
ssize_t pwrite64(int fd, const void *buffer, size_t length, off64_t offset) { return pwrite(fd, buffer, length, offset); }

ssize_t write(int fd, const void *buffer, size_t length) {
    if (!ours(fd)) return syscall(SYS_write, fd, buffer, length);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = written(fd, buffer, length, at);
    if (done > 0) lseek(fd, at + done, SEEK_SET);
    return done;
}

static int truncated(int fd, off_t length) {
    int torn = 0, after = 0, done = -1;
    pthread_mutex_lock(&lock);
    if (!meets(fd, TRUNCATE, &torn, &after)) {
        note(fd, length, NULL, 0, 1);
        done = syscall(SYS_ftruncate, fd, length);
        if (after) die();
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t length) { return ours(fd) ? truncated(fd, length) : (int)syscall(SYS_ftruncate, fd, length); }
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int synced(int fd) {
    int torn = 0, after = 0, done = -1;
    pthread_mutex_lock(&lock);
    control->syncs++;
    if (!meets(fd, SYNC, &torn, &after)) {
        if (!control->lies) forget(fd);
        done = 0;
        if (after) die();
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int fsync(int fd) { return ours(fd) ? synced(fd) : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return ours(fd) ? synced(fd) : (int)syscall(SYS_fdatasync, fd); }

static int read_fails(int fd) {
    int torn = 0, after = 0;
    pthread_mutex_lock(&lock);
    int fails = meets(fd, READ, &torn, &after);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fails;
}
ssize_t pread(int fd, void *buffer, size_t length, off_t offset) {
    return ours(fd) && read_fails(fd) ? -1 : raw_pread(fd, buffer, length, offset);
}
ssize_t pread64(int fd, void *buffer, size_t length, off64_t offset) { return pread(fd, buffer, length, offset); }
ssize_t read(int fd, void *buffer, size_t length) {
    return ours(fd) && read_fails(fd) ? -1 : syscall(SYS_read, fd, buffer, length);
}

static mode_t mode_of(int flags, va_list *rest) {
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(*rest, int) : 0;
}
static int writes(const char *path, int flags) {
    return !strncmp(path, folder, strlen(folder)) && (flags & (O_WRONLY | O_RDWR | O_CREAT));
}
#define OPENS(name, parameters, folder_fd) \
    int name parameters { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = mode_of(flags, &rest); \
        va_end(rest); \
        if (control->read_only && writes(path, flags)) { errno = EROFS; return -1; } \
        int fd = syscall(SYS_openat, folder_fd, path, flags, mode); \
        opened(fd); \
        return fd; \
    }
OPENS(open, (const char *path, int flags, ...), AT_FDCWD)
OPENS(open64, (const char *path, int flags, ...), AT_FDCWD)
OPENS(openat, (int at, const char *path, int flags, ...), at)
OPENS(openat64, (int at, const char *path, int flags, ...), at)

int close(int fd) {
    if (fd >= 0 && fd < FILES) tracked[fd] = 0;
    return syscall(SYS_close, fd);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int outcome = syscall(SYS_clock_gettime, clock, time);
    if (!outcome && clock == CLOCK_REALTIME && control->clock_ms) {
        int64_t ms = control->clock_ms;
        time->tv_sec += ms / 1000;
        time->tv_nsec += ms % 1000 * 1000000;
        if (time->tv_nsec < 0) time->tv_nsec += 1000000000, time->tv_sec--;
        if (time->tv_nsec >= 1000000000) time->tv_nsec -= 1000000000, time->tv_sec++;
    }
    return outcome;
}

/* Not a disk's, but a system's that is as full. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    if (control->no_threads) {
        __sync_fetch_and_add(&control->refused_threads, 1);
        return EAGAIN;
    }
    return real(thread, attributes, run, argument);
}
