/* Made by refbnn $version: checks $library against the test vector in ${name}_test.h.
 *
 *   $command
 *
 * The expected results are those of the float64 reference. Prints the greatest errors, and returns 0
 * if all are within the tolerance, otherwise 1.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "$name.h"
#include "${name}_test.h"

static struct ${name}_work work;
static float $arrays;

/* NaN stands for what must not be a number. */
static int check(const char *what, const float *got, const double *expected, int n, double tolerance) {
  double greatest = 0.0;
  for (int i = 0; i < n; ++i) {
    double error = isnan(expected[i]) ? (isnan(got[i]) ? 0.0 : INFINITY) : fabs(got[i] - expected[i]);
    if (!(error <= greatest)) greatest = error; /* NaN too */
  }
  int holds = greatest <= tolerance;
  printf("%s: greatest error %.3g, allowed %.3g: %s\n", what, greatest, tolerance,
         holds ? "holds" : "DOES NOT HOLD");
  return holds;
}

static int failed(const char *function, int code) {
  printf("${name}_%s returned %d\n", function, code);
  return 1;
}

int main(void) {
  int code = ${name}_check(&work, sizeof work);
  if (code != ${upper}_OK) return failed("check", code);
  code = ${name}_propagate(${name}_test_x, mean, $second_name, &work);
  if (code != ${upper}_OK) return failed("propagate", code);
$predict$checks
$bits  return holds ? 0 : 1;
}
