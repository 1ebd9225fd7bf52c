"""What the GPU did: kernels by class and phase, from exports of Nsight Systems, Nsight Compute and torch.profiler."""

from loratwin.gpu_traces.classes import CLASSES, kernel_class
from loratwin.gpu_traces.read import read_trace
from loratwin.gpu_traces.summary import ClassFigures, by_class, by_kernel
from loratwin.gpu_traces.trace import KernelTrace

__all__ = [
    "CLASSES",
    "ClassFigures",
    "KernelTrace",
    "by_class",
    "by_kernel",
    "kernel_class",
    "read_trace",
]
