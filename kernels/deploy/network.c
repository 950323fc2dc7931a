/* Made by refbnn compile: ${name}_propagate, as $name.h says. C11. */
#include "$name.h"

#include <stdint.h>
$beginning
/* The kernel reads and writes whole vectors: memory of its own, rows padded. */
$weights$memory
$kernel
static void copy_rows(float *to, int to_pitch, const float *from, int from_pitch, int rows,
                      int columns) {
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column)
      to[row * to_pitch + column] = from[row * from_pitch + column];
}

int ${name}_propagate(const float *x, float *mean, float *var) {
  copy_rows(input, $input_pitch, x, $input_columns, $input_rows, $input_columns);
  ${name}_kernel($arguments);
  if ($status) return $status; /* the kernel checks x, mean and variance: codes of $name.h */
$results
  return ${upper}_OK;
}
