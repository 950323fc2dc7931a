/* Made by refbnn compile: moments of a Bayesian neural network's output, by propagation.
 *
 *   network     $network
 *   compiled    $compiled
 *   operators   form "$form", schedule "$schedule"
$about_inputs *
 * Arrays are plain rows, one example after the other, images as channels, rows, columns (NCHW). They
 * may lie anywhere where a float may. No call takes memory from a heap, or stack beyond some
 * kilobytes; all memory is static, so one call at a time: not for two threads, nor for an interrupt
 * within a call.
$needs *
 * Weights: $weights_bytes bytes of read-only data, float32$endianness, each array at a
 * multiple of ${alignment} bytes and padded with zeros to whole vectors of $lanes:
 *
$weights_table
 */
#ifndef ${upper}_H
#define ${upper}_H

#define ${upper}_BATCH $batch        /* examples of one call */
#define ${upper}_INPUTS $inputs      /* numbers of one of them: $input_shape */
#define ${upper}_OUTPUTS $outputs    /* numbers of one output: $output_shape */
#define ${upper}_WEIGHT_BYTES $weights_bytes
#define ${upper}_MEMORY_BYTES $memory_bytes    /* static, read and written */

/* What ${name}_propagate returns. */
#define ${upper}_OK 0
#define ${upper}_BAD_INPUT 1       /* x holds NaN or infinity */
#define ${upper}_BAD_MEAN 2        /* a mean, of an output or inside, is no finite number: x too large */
#define ${upper}_BAD_VARIANCE 3    /* a variance likewise: x too large */

#ifdef __cplusplus
extern "C" {
#endif

/* Mean and variance of every output for known inputs.
 *
 *   x           ${upper}_BATCH times ${upper}_INPUTS numbers
 *   mean, var   ${upper}_BATCH times ${upper}_OUTPUTS numbers, written if it returns ${upper}_OK
 */
int ${name}_propagate(const float *x, float *mean, float *var);

#ifdef __cplusplus
}
#endif

#endif
