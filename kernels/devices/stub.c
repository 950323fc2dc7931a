/* What compiled kernels ask of TVM's runtime and of the C library, for a core without either.
 *
 * One thread. Temporary memory is a stack: kernels give back in reverse what they take. Words of 16
 * bytes are set and copied where lengths allow, as C libraries do.
 */
#include <stddef.h>
#include <stdint.h>

#define WORKSPACE (64u << 20)
#define ALIGNMENT 64u

static _Alignas(ALIGNMENT) char workspace[WORKSPACE];
static size_t used;

void *TVMBackendAllocWorkspace(int type, int id, uint64_t size, int code, int bits) {
  size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (rounded < size || rounded > WORKSPACE - used) return NULL;
  used += rounded;
  return workspace + used - rounded;
}

int TVMBackendFreeWorkspace(int type, int id, void *memory) {
  used = (size_t)((char *)memory - workspace);
  return 0;
}

struct group { void *sync; int32_t tasks; };

int TVMBackendParallelLaunch(int (*task)(int, struct group *, void *), void *data, int tasks) {
  struct group alone = {NULL, 1};
  return task(0, &alone, data);
}

/* What went wrong, for the one who reads this memory afterwards. */
const char *raised_kind;
const char **raised_parts;
int32_t raised_n_parts;

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n_parts) {
  raised_kind = kind;
  raised_parts = parts;
  raised_n_parts = n_parts;
}

/* Kernels reach some functions through these, as a loader sets them. */
void *__TVMBackendAllocWorkspace = TVMBackendAllocWorkspace;
void *__TVMBackendFreeWorkspace = TVMBackendFreeWorkspace;
void *__TVMBackendParallelLaunch = TVMBackendParallelLaunch;

typedef uint8_t word __attribute__((vector_size(16), aligned(1), may_alias));

void *memset(void *to, int value, size_t n) {
  char *t = to;
  word filled = (word){} + (uint8_t)value;
  for (; n >= 16; n -= 16, t += 16) *(word *)t = filled;
  for (; n; --n) *t++ = (char)value;
  return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
  char *t = to;
  const char *f = from;
  for (; n >= 16; n -= 16, t += 16, f += 16) *(word *)t = *(const word *)f;
  for (; n; --n) *t++ = *f++;
  return to;
}
