
#include <stdbool.h>

#ifdef __GNUC__ /* code that a program wrote has names that it does not use */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#ifndef __clang__ /* sums that begin in the first turn of a loop */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

static inline float float_of(int32_t bits) {
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

static inline uint32_t bits_of(float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return bits;
}

static inline int32_t signed_bits_of(float number) {
  int32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return bits;
}
