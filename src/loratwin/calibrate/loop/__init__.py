"""The loop of a calibration on your own server: designed, measured, fitted, predicted, measured again and checked."""
