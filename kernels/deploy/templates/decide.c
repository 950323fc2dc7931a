/* Made by refbnn $version: decides with $name, frame by frame, and abstains where it does not know.
 *
 *   $command
 *   ./decide < frames
 *
 * A frame is ${upper}_BATCH times ${upper}_INPUTS float32 numbers, as this machine stores them; frames
 * follow each other. Prints one line for each example. Returns 0, or 1 if a frame was cut off or the
 * check failed. An example whose status is not ${upper}_OK is decided by nobody: treat it as unknown.
 */
#include <math.h>
#include <stdio.h>

#include "$name.h"

/* Nats of mutual information, as `refbnn evaluate` reports it; INFINITY abstains only on errors. */
#define ABSTAIN_ABOVE $threshold

static struct ${name}_work work;
static float frame[${upper}_BATCH * ${upper}_INPUTS], p[${upper}_BATCH * ${upper}_CLASSES];
static struct ${name}_uncertainty u[${upper}_BATCH];

static void decide(const float *own, const struct ${name}_uncertainty *sure) {
  if (sure->status != ${upper}_OK) {
    printf("abstains: code %d\n", sure->status);
    return;
  }
  int best = 0;
  for (int c = 1; c < ${upper}_CLASSES; ++c)
    if (own[c] > own[best]) best = c;
  const char *what = sure->mutual_information > ABSTAIN_ABOVE ? "abstains, nearest class" : "class";
  printf("%s %d, probability %.4f, mutual information %.4f nats, entropy %.4f nats\n", what, best,
         (double)own[best], (double)sure->mutual_information, (double)sure->entropy);
}

int main(void) {
  int code = ${name}_check(&work, sizeof work);
  if (code != ${upper}_OK) {
    fprintf(stderr, "${name}_check returned %d\n", code);
    return 1;
  }
  size_t read;
  while ((read = fread(frame, 1, sizeof frame, stdin)) == sizeof frame) {
    ${name}_predict(frame, p, u, &work); /* its code is in the status of each example */
    for (int row = 0; row < ${upper}_BATCH; ++row) decide(p + row * ${upper}_CLASSES, u + row);
  }
  if (read != 0 || ferror(stdin)) {
    fprintf(stderr, "the last frame has %lu bytes; expected %lu\n", (unsigned long)read,
            (unsigned long)sizeof frame);
    return 1;
  }
  return 0;
}
