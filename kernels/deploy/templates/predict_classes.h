
/* How sure a prediction of classes is, in nats. */
struct ${name}_uncertainty {
  float entropy;            /* of p: 0 where one class is certain, log ${upper}_CLASSES at most */
  float mutual_information; /* epistemic part: large where the network does not know */
  float aleatoric;          /* the rest: where the classes themselves overlap */
  int status;               /* of this example: codes as above */
};

/* Probabilities of classes, and how sure they are.
 *
 *   x   ${upper}_BATCH times ${upper}_INPUTS numbers
 *   p   ${upper}_BATCH times ${upper}_CLASSES numbers, each row with sum 1
 *   u   ${upper}_BATCH structs
 *
 * Returns ${upper}_UNSUITED if that is the status of any example: standard deviations of its logits are
 * above $widest. The other examples then have their results.
 */
int ${name}_predict(const float *x, float *p, struct ${name}_uncertainty *u, struct ${name}_work *work);
