"""What a network costs and what it is worth: accuracy, multiply-adds, bytes, memory, latency."""

from secateur.measure.accuracy import accuracy
from secateur.measure.agreement import largest_difference
from secateur.measure.doubts import doubts
from secateur.measure.footprint import file_bytes, memory_of
from secateur.measure.latency import compare_latency
from secateur.measure.macs import layer_table
from secateur.measure.prediction import faster_predictor

__all__ = [
    "accuracy",
    "compare_latency",
    "doubts",
    "faster_predictor",
    "file_bytes",
    "largest_difference",
    "layer_table",
    "memory_of",
]
