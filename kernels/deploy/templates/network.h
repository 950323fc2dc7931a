/* Made by refbnn $version: a Bayesian neural network, its output and how sure it is.
 *
 *   network     $network
 *   hash        $digest (SHA-256 of layers, weights and what predicts; 16 digits)
 *   compiled    $compiled
 *   method      $method
 *   operators   form "$form", schedule "$schedule"$timing
 *   outputs     $about_outputs
$about_inputs *
 * Arrays are plain rows, one example after the other, images as channels, rows, columns (NCHW). They
 * may lie anywhere where a float may, and must not overlap. No call takes memory from a heap or has
 * static memory: all of it is in a struct ${name}_work, which the caller owns. Calls with different
 * structs may run at once, in threads and interrupts. The stack needs some kilobytes.
$needs *
 * Weights: $weights_bytes bytes of read-only data, float32$endianness, each array at a
 * multiple of ${alignment} bytes and padded with zeros to whole vectors of $lanes:
 *
$weights_table
 */
#ifndef ${upper}_H
#define ${upper}_H

#include <stddef.h>
#include <stdint.h>

#define ${upper}_BATCH $batch        /* examples of one call */
#define ${upper}_INPUTS $inputs      /* numbers of one of them: $input_shape */
#define ${upper}_OUTPUTS $outputs    /* numbers of one output: $output_shape */
$numbers#define ${upper}_WEIGHT_BYTES $weights_bytes
#define ${upper}_WEIGHT_CRC32 ${crc}u
#define ${upper}_WORK_BYTES $work_bytes    /* sizeof(struct ${name}_work) */

/* What all functions return. Unless it is ${upper}_OK, results hold NaN in place of numbers. */
#define ${upper}_OK 0
#define ${upper}_BAD_INPUT 1       /* x holds NaN or infinity */
#define ${upper}_BAD_MEAN 2        /* a mean, of an output or inside, is no finite number: x too large */
#define ${upper}_BAD_VARIANCE 3    /* a variance likewise: x too large */
#define ${upper}_UNSUITED 4        /* logits vary too much for the rule of ${name}_predict */
#define ${upper}_BAD_WEIGHTS 5     /* the weights are not those that were compiled */
#define ${upper}_BAD_WORK 6        /* work is NULL, too small, or not at a multiple of ${alignment} bytes */
#define ${upper}_NOT_CHECKED 7     /* ${name}_check has not returned ${upper}_OK for this work */
#define ${upper}_FAILED_TEST 8     /* the self test gave other numbers than the reference */
#define ${upper}_NULL 9            /* x or a result is NULL */

#if defined(__cplusplus)
#define ${upper}_ALIGNED alignas(${alignment})
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define ${upper}_ALIGNED _Alignas(${alignment})
#elif defined(__GNUC__)
#define ${upper}_ALIGNED __attribute__((aligned(${alignment})))
#else
#define ${upper}_ALIGNED /* place each struct ${name}_work at a multiple of ${alignment} bytes */
#endif

/* Memory of a call. Its members are the library's; their contents matter only within a call, but
 * for `ready`, which ${name}_check writes. */
struct ${name}_work {
$members
};

#ifdef __cplusplus
extern "C" {
#endif

/* Check the weights by their CRC-32, and the code by an example whose result is known; call it once
 * for each work, before anything else, and again whenever memory may have changed.
 *
 *   bytes   size of the memory at work, at least ${upper}_WORK_BYTES
 */
int ${name}_check(struct ${name}_work *work, size_t bytes);

/* Mean and $second of $outputs_text for known inputs.
 *
 *   x      ${upper}_BATCH times ${upper}_INPUTS numbers
 *   mean   ${upper}_BATCH times ${upper}_OUTPUTS numbers
 *   $about_second
 */
int ${name}_propagate(const float *x, float *mean, float *$second_name, struct ${name}_work *work);
$predict
#ifdef __cplusplus
}
#endif

#endif
