  static struct ${name}_uncertainty u[${upper}_BATCH];
  code = ${name}_predict(${name}_test_x, probabilities, u, &work);
  if (code != ${upper}_OK && code != ${upper}_UNSUITED) return failed("predict", code);
  for (int row = 0; row < ${upper}_BATCH; ++row) {
    entropies[row] = u[row].entropy;
    entropies[${upper}_BATCH + row] = u[row].mutual_information;
    entropies[2 * ${upper}_BATCH + row] = u[row].aleatoric;
  }
