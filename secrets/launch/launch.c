/* SPDX-License-Identifier: Apache-2.0 */

/* molecule-launch COMMAND [ARGUMENT…], the entrypoint of every workspace. What an engine is told of an environment it writes to its disk
 * and shows to whoever asks, so the values that nobody may see come by a file in memory instead. This program puts them into the
 * environment and becomes the command. It knows nothing of its image: it is linked statically, needs no file but that one, allocates
 * nothing, and fails rather than start a command with a part of its environment. Its words hold numbers of entries, and the command as it
 * was given: no name or value of an entry, nor the path that was tried, for a directory of PATH is a value too. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENV_FILE     "/run/molecule/env"
#define ENV_MAGIC    "MOLECULE-ENV/"
#define ENV_VERSION  "1 "
#define ENV_MAX      (1024 * 1024)
#define ENTRIES_MAX  16384
#define WORD_MAX     200                                        /* of a message: what an image calls its command may be long */
#define DIGITS_MAX   24
#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { EXIT_CANNOT_EXECUTE = 126, EXIT_NOT_FOUND = 127, EXIT_LAUNCH = 243 };

/* "It is there, but what it needs is not": execve() says ENOENT for both. */
#define ENOLOADER ELIBACC

typedef struct Env {
        char *entries[ENTRIES_MAX + 1];                         /* ends in NULL */
        size_t n;
} Env;

/* Some words: one line on stderr, and the end. */
#define fail(status, ...) fail_words(status, (const char *const[]){ __VA_ARGS__, NULL })

static _Noreturn void fail_words(int status, const char *const *words) {
        char line[8 * WORD_MAX] = "molecule-launch: ";
        size_t n = strlen(line);

        for (; *words; words++)
                for (const char *c = *words; *c && c < *words + WORD_MAX && n < sizeof line - 1; c++)
                        line[n++] = (unsigned char) *c < ' ' || *c == 0x7f ? '?' : *c;
        line[n++] = '\n';
        (void) !write(STDERR_FILENO, line, n);                  /* nobody is left to be told */
        _exit(status);
}

static const char *number(size_t n, char buffer[static DIGITS_MAX]) {
        size_t at = DIGITS_MAX - 1;

        buffer[at] = 0;
        do
                buffer[--at] = (char) ('0' + n % 10);
        while ((n /= 10) > 0);
        return buffer + at;
}

static _Noreturn void fail_file(const char *words, const char *more) {
        fail(EXIT_LAUNCH, ENV_FILE, ": ", words, more);
}

static _Noreturn void fail_entry(const char *before, size_t entry, const char *after) {
        char digits[DIGITS_MAX];

        fail(EXIT_LAUNCH, ENV_FILE, ": ", before, number(entry, digits), after);
}

/* ENTRIES_MAX also bounds the time: a name is found by looking along the table. */
static void env_add(Env *env, char *entry) {
        if (env->n == ENTRIES_MAX)
                fail(EXIT_LAUNCH, "the environment has too many entries");
        env->entries[env->n++] = entry;
        env->entries[env->n] = NULL;
}

/* In the place of the first of that name, and the only one of it then: programs differ in which of two they take. */
static void env_put(Env *env, char *entry, size_t name_size) {
        size_t kept = 0;
        bool placed = false;

        for (size_t i = 0; i < env->n; i++) {
                if (strncmp(env->entries[i], entry, name_size + 1) != 0)
                        env->entries[kept++] = env->entries[i];
                else if (!placed) {
                        env->entries[kept++] = entry;
                        placed = true;
                }
        }
        env->n = kept;
        env->entries[kept] = NULL;
        if (!placed)
                env_add(env, entry);
}

static const char *env_get(const Env *env, const char *name) {
        size_t n = strlen(name);

        for (size_t i = 0; i < env->n; i++)
                if (strncmp(env->entries[i], name, n) == 0 && env->entries[i][n] == '=')
                        return env->entries[i] + n + 1;
        return NULL;
}

/* O_NONBLOCK: opening a fifo would wait for its writer. O_CLOEXEC alone closes the file, for what follows is the end of this program. */
static size_t file_read(char text[static ENV_MAX + 1]) {
        int fd = open(ENV_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;
        size_t n = 0;
        ssize_t r;

        if (fd < 0 || fstat(fd, &st) < 0)
                fail_file("cannot be opened: ", strerror(errno));
        if (!S_ISREG(st.st_mode))
                fail_file("is not a regular file", "");
        do {
                r = read(fd, text + n, ENV_MAX + 1 - n);
                if (r < 0 && errno != EINTR)
                        fail_file("cannot be read: ", strerror(errno));
                n += r > 0 ? (size_t) r : 0;
        } while (r != 0 && n <= ENV_MAX);
        if (n > ENV_MAX)
                fail_file("is larger than 1 MiB", "");
        return n;
}

/* The next string, or NULL where the text ends before the string does. */
static char *next_string(char **at, const char *end) {
        char *s = *at, *nul = memchr(s, 0, (size_t) (end - s));

        if (nul)
                *at = nul + 1;
        return nul ? s : NULL;
}

/* Decimal, as number() writes it, so that there is one way to say it. */
static size_t parse_count(const char *s) {
        size_t n = 0;

        for (const char *p = s; *p >= '0' && *p <= '9' && n <= ENV_MAX; p++)
                n = n * 10 + (size_t) (*p - '0');
        if (n > ENTRIES_MAX)
                fail_file("has too many entries", "");
        if (strcmp(s, number(n, (char[DIGITS_MAX]){})) != 0)
                fail_file("its count is not a number", "");
        return n;
}

static size_t parse_head(const char *head) {
        if (!head)
                fail_file("is truncated in its first string", "");
        if (strncmp(head, ENV_MAGIC, strlen(ENV_MAGIC)) != 0)
                fail_file("does not begin as it should", "");
        head += strlen(ENV_MAGIC);
        if (strncmp(head, ENV_VERSION, strlen(ENV_VERSION)) != 0)
                fail_file("is of a version that this launcher does not know", "");
        return parse_count(head + strlen(ENV_VERSION));
}

/* The entries go on living in the text. */
static void env_merge(Env *env, char *text, size_t size) {
        char *at = text;
        const char *end = text + size;
        size_t count = parse_head(next_string(&at, end));

        for (size_t i = 1; i <= count; i++) {
                char *entry = next_string(&at, end);
                const char *equals = entry ? strchr(entry, '=') : NULL;

                if (!entry)
                        fail_entry("is truncated at entry ", i, ", before its count is reached");
                if (!equals)
                        fail_entry("entry ", i, " has no '='");
                if (equals == entry)
                        fail_entry("entry ", i, " has no name");
                env_put(env, entry, (size_t) (equals - entry));
        }
        if (at != end)
                fail_entry("has more than its count of ", count, " entries");
}

/* Returns only when it did not become the program. */
static int try(const char *file, char *const *argv, const Env *env) {
        int e;

        (void) execve(file, argv, env->entries);
        e = errno;
        return e == ENOENT && access(file, F_OK) == 0 ? ENOLOADER : e;
}

/* An empty directory is the current one, with "./" so that an interpreter looks nowhere else. False when there is no such path. */
static bool join(char ret[static PATH_MAX], const char *directory, size_t n, const char *name) {
        size_t name_size = strlen(name) + 1;

        if (n == 0) {
                directory = ".";
                n = 1;
        }
        if (n >= PATH_MAX || name_size > PATH_MAX - n - 1)
                return false;
        memcpy(ret, directory, n);
        ret[n] = '/';
        memcpy(ret + n + 1, name, name_size);
        return true;
}

/* What was found but could not be run is remembered, for a better one may stand in a later directory. */
static int search(char *const *argv, const Env *env, const char *path) {
        int found = ENOENT;

        for (;; path++) {
                size_t n = strcspn(path, ":");
                char file[PATH_MAX];

                if (join(file, path, n, argv[0])) {
                        int e = try(file, argv, env);

                        if (e == EACCES || (e == ENOLOADER && found == ENOENT))
                                found = e;
                        else if (e != ENOENT && e != ENOTDIR && e != ENOLOADER)
                                return e;
                }
                path += n;
                if (!*path)
                        return found;
        }
}

static int run(char *const *argv, const Env *env) {
        const char *path = env_get(env, "PATH");

        if (!argv[0][0])
                return ENOENT;
        if (strchr(argv[0], '/'))
                return try(argv[0], argv, env);
        return search(argv, env, path ? path : PATH_DEFAULT);
}

int main(int argc, char **argv) {
        static char text[ENV_MAX + 1];
        static Env env;
        int e;

        if (argc < 2)
                fail(EXIT_LAUNCH, "no command; as the entrypoint of a container it runs the command in its arguments "
                                  "with the environment in " ENV_FILE, NULL);
        for (char **entry = environ; *entry; entry++)
                env_add(&env, *entry);
        env_merge(&env, text, file_read(text));

        e = run(argv + 1, &env);
        if (e == ENOENT || e == ENOTDIR)
                fail(EXIT_NOT_FOUND, argv[1], ": command not found");
        if (e == ENOLOADER)
                fail(EXIT_CANNOT_EXECUTE, argv[1], ": is there, but not the interpreter or loader that it needs");
        fail(EXIT_CANNOT_EXECUTE, argv[1], ": cannot be executed: ", strerror(e));
}
