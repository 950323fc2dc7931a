/* Made by refbnn $version: a test vector of $name.
 *
 * x: numbers uniform on $range. Results: those of the float64 reference, for the weights before they
 * were rounded to float32. Tolerances of moments: $tolerance of the largest |mean| + standard
 * deviation, or of the largest variance, for each of $layers layers; a kernel alone is as accurate
 * as that, relative to the terms that it sums. Those of predictions add to the rule's own what
 * errors of moments within their tolerances can make.
 */
#ifndef ${upper}_TEST_H
#define ${upper}_TEST_H

#include <math.h>

static const float ${name}_test_x[] = {
$x};
$results
#endif
