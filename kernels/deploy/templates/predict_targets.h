
/* Prediction of one target: mean, in the units of the target, and both parts of its variance. */
struct ${name}_target {
  float mean;
  float epistemic; /* variance of what the network does not know */
  float aleatoric; /* variance of the noise of the target itself */
};

/* Targets and how sure they are.
 *
 *   x   ${upper}_BATCH times ${upper}_INPUTS numbers
 *   y   ${upper}_BATCH times ${upper}_TARGETS structs
 */
int ${name}_predict(const float *x, struct ${name}_target *y, struct ${name}_work *work);
