
/* Entropies and probabilities from the moments in work. */
static void statistics(struct ${name}_work *work) {
  ${name}_statistics($arguments);
}

int ${name}_predict(const float *x, float *p, struct ${name}_uncertainty *u, struct ${name}_work *work) {
  int code = p && u ? moments_of(x, work) : ${upper}_NULL, any = code;
  if (!code) statistics(work);
  for (int row = 0; row < ${upper}_BATCH; ++row) {
    int status = code;
    if (!code) {
      const float *own = work->p + row * $pitch, *found = work->found + row;
      int right = found[3 * ${upper}_BATCH] == 0.0f; /* whether the rule takes the row */
      for (int c = 0; c < ${upper}_CLASSES; ++c) right &= own[c] >= 0.0f && own[c] <= 1.0f;
      if (right) {
        for (int c = 0; c < ${upper}_CLASSES; ++c) p[row * ${upper}_CLASSES + c] = own[c];
        u[row].entropy = found[${upper}_BATCH];
        u[row].mutual_information = found[2 * ${upper}_BATCH];
        u[row].aleatoric = found[0];
        u[row].status = ${upper}_OK;
        continue;
      }
      any = status = ${upper}_UNSUITED;
    }
    if (p) no_numbers(p + row * ${upper}_CLASSES, ${upper}_CLASSES);
    if (u) {
      u[row].entropy = u[row].mutual_information = u[row].aleatoric = NAN;
      u[row].status = status;
    }
  }
  return any;
}
