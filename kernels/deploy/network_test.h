/* Made by refbnn compile: a test vector of $name.
 *
 * x: numbers uniform on [0, 1). Mean and variance: those of the float64 reference, for the weights
 * before they were rounded to float32. Tolerances: $tolerance of the largest |mean| + standard
 * deviation, or of the largest variance, for each of $layers layers; a kernel alone is as accurate
 * as that, relative to the terms that it sums.
 */
#define TEST_MEAN_TOLERANCE $mean_tolerance
#define TEST_VAR_TOLERANCE $var_tolerance

static const float test_x[] = {
$x};

static const double test_mean[] = {
$mean};

static const double test_var[] = {
$var};
$kernel
