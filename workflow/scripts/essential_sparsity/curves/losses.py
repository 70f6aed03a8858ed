"""The largest loss: for runs and for curves alike, so it stands apart from what each metric is called."""

import math

# Nats a predicted token: what stands for a loss that is larger, or no number. Its perplexity leaves room for arithmetic.
LARGEST = math.log(1e300)
