/* Made by refbnn compile: checks $library against the test vector in ${name}_test.h.
 *
 *   $command
 *
 * The expected moments are those of the float64 reference. Prints the greatest errors, and returns 0
 * if all are within the tolerance, otherwise 1.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "$name.h"
#include "${name}_test.h"

#define RESULTS (${upper}_BATCH * ${upper}_OUTPUTS)

static int check(const char *what, const float *got, const double *expected, double tolerance) {
  double greatest = 0.0;
  for (int index = 0; index < RESULTS; ++index) {
    double error = fabs(got[index] - expected[index]);
    if (!(error <= greatest)) greatest = error; /* NaN too */
  }
  int holds = greatest <= tolerance;
  printf("%s: greatest error %.3g, allowed %.3g: %s\n", what, greatest, tolerance,
         holds ? "holds" : "DOES NOT HOLD");
  return holds;
}

int main(void) {
  static float mean[RESULTS], var[RESULTS];
  int code = ${name}_propagate(test_x, mean, var);
  if (code != ${upper}_OK) {
    printf("${name}_propagate returned %d\n", code);
    return 1;
  }
  int holds = check("mean", mean, test_mean, TEST_MEAN_TOLERANCE);
  holds &= check("variance", var, test_var, TEST_VAR_TOLERANCE);
$bits
  return holds ? 0 : 1;
}
