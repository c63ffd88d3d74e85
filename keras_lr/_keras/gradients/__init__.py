"""Rates that a rule computes from the gradients inside a training step.

A rule computes the rate where the optimizer updates its weights, so the rate is not known before
the step. The step itself notes it, in a table that is read when the executions are reported
(`RateNotes`). A step that applies gradients twice is refused while it is traced, or, if it does so
in a branch or a loop, right after the first execution.

A rule keeps its state in its own variables. Small weights are packed into one vector there
(`Packing`), because the time of a small network depends on the number of operations. On JAX these
variables are in the list of the optimizer's variables while the step is traced, and their values
come after those of the optimizer. So gradient accumulation and loss scaling, which put the
optimizer's variables back if there is no update, do the same to them.

A schedule in the same fit is the rule's factor: its track moves the factor and not the rate.
"""
