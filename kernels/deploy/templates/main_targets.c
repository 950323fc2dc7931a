  static struct ${name}_target y[${upper}_BATCH * ${upper}_TARGETS];
  code = ${name}_predict(${name}_test_x, y, &work);
  if (code != ${upper}_OK) return failed("predict", code);
  for (int i = 0; i < ${upper}_BATCH * ${upper}_TARGETS; ++i) aleatoric[i] = y[i].aleatoric;
