
/* Variances of the targets' noise from the moments in work. */
static void statistics(struct ${name}_work *work) {
  ${name}_statistics($arguments);
}

int ${name}_predict(const float *x, struct ${name}_target *y, struct ${name}_work *work) {
  int code = y ? moments_of(x, work) : ${upper}_NULL;
  if (!code) statistics(work);
  for (int row = 0; !code && row < ${upper}_BATCH; ++row)
    for (int i = 0; i < ${upper}_TARGETS; ++i) {
      struct ${name}_target *one = y + row * ${upper}_TARGETS + i;
      one->mean = work->mean[row * $mean_pitch + i];
      one->epistemic = $epistemic;
      one->aleatoric = work->aleatoric[row * $pitch + i];
      if (!(one->aleatoric <= FLT_MAX)) code = ${upper}_BAD_VARIANCE;
    }
  if (code && y)
    for (int i = 0; i < ${upper}_BATCH * ${upper}_TARGETS; ++i)
      y[i].mean = y[i].epistemic = y[i].aleatoric = NAN;
  return code;
}
