/* Made by refbnn $version: the functions of $name.h. C99. */
#include "$name.h"

#include <float.h>
#include <math.h>
#include <string.h>
$beginning
/* Kernels read and write whole vectors: memory of their own, rows padded. */
$weights
$kernels
#define READY (0xC0DE0000u ^ ${upper}_WEIGHT_CRC32)

/* Copy rows to others of `pitch` numbers; the padding becomes 0. */
static void padded(float *to, int pitch, const float *from, int rows, int columns) {
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < pitch; ++column)
      to[row * pitch + column] = column < columns ? from[row * columns + column] : 0.0f;
}

/* Copy rows without their padding. */
static void unpadded(float *to, const float *from, int pitch, int rows, int columns) {
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column)
      to[row * columns + column] = from[row * pitch + column];
}

/* Leave no number where a call failed. */
static void no_numbers(float *to, int n) {
  if (to)
    for (int i = 0; i < n; ++i) to[i] = NAN;
}

static int is_aligned(const struct ${name}_work *work) {
  return work && (uintptr_t)work % ${alignment} == 0;
}

/* Moments of the outputs for work->input; returns a code. */
static int moments(struct ${name}_work *work) {
  ${name}_kernel($arguments);
  return (int)work->status[0]; /* the kernel checks x, mean and $second: codes of $name.h */
}

/* Moments of the outputs for x; returns a code. */
static int moments_of(const float *x, struct ${name}_work *work) {
  if (!is_aligned(work)) return ${upper}_BAD_WORK;
  if (work->ready[0] != READY) return ${upper}_NOT_CHECKED;
  if (!x) return ${upper}_NULL;
  padded(work->input, $input_pitch, x, $input_rows, $input_columns);
  return moments(work);
}

int ${name}_propagate(const float *x, float *mean, float *$second_name, struct ${name}_work *work) {
  int code = mean && $second_name ? moments_of(x, work) : ${upper}_NULL;
  if (code) {
    no_numbers(mean, $mean_numbers);
    no_numbers($second_name, $second_numbers);
    return code;
  }
$results
  return ${upper}_OK;
}
$predict
static uint32_t crc_of_weights(void) {
  static const uint32_t table[16] = {
      0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
      0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
      0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
  uint32_t crc = 0xFFFFFFFFu;
  (void)table; /* a network may have no weights */
$crc  return ~crc;
}

/* Whether results are within a tolerance of those of the reference; NaN is not. */
static int near(const float *got, const float *expected, int n, float tolerance) {
  int holds = 1;
  for (int i = 0; i < n; ++i) holds &= fabsf(got[i] - expected[i]) <= tolerance;
  return holds;
}

/* An example whose result is known: x_i = i φ mod 1, φ the golden ratio, without rounding. */
static int self_test(struct ${name}_work *work) {
$expected
  for (uint32_t row = 0; row < $input_rows; ++row)
    for (uint32_t column = 0; column < $input_pitch; ++column) {
      uint32_t bits = (row * $input_columns + column) * 2654435769u;
      work->input[row * $input_pitch + column] = column < $input_columns ? (float)(bits >> 8) * $unit : 0.0f;
    }
  if (moments(work)) return 0;
$tests
}

int ${name}_check(struct ${name}_work *work, size_t bytes) {
  if (!is_aligned(work) || bytes < sizeof *work) return ${upper}_BAD_WORK;
  work->ready[0] = 0;
  if (crc_of_weights() != ${upper}_WEIGHT_CRC32) return ${upper}_BAD_WEIGHTS;
  if (!self_test(work)) return ${upper}_FAILED_TEST;
  work->ready[0] = READY;
  return ${upper}_OK;
}
