"""The twin against measurements: predictions, advice, and how good they are."""

from loratwin.validate.decisions import Decision, decide_all, decide_file, decisions_csv, decisions_data
from loratwin.validate.predict import Prediction, check_output, predict, predict_all, predict_file, predictions_csv

__all__ = [
    "Decision",
    "Prediction",
    "check_output",
    "decide_all",
    "decide_file",
    "decisions_csv",
    "decisions_data",
    "predict",
    "predict_all",
    "predict_file",
    "predictions_csv",
]
