"""Kernels: native code for CPUs and Pallas kernels for GPUs, generated from a neuron's step or written by hand.

A step is traced once to a program of elementwise statements per lane (`program`, `spec`); from it come a CPU kernel
(`source`), a Pallas kernel (`pallas`) and a plain loop for everything else (`plain`), which `calls` offers to JAX as
primitives. All share one contract: the forward pass stores the state of every 16th time step, the backward pass
computes the others again. A recurrent step has two products more in every step.

CPU kernels are texts of a small `language`, brought into LLVM's representation by `translation`, compiled
(`object_code`), stored on disk (`kernel_cache`) and called by XLA (`native`). `rows` and `maps` are the event-driven
products, `chain` is one time step of several layers.
"""
