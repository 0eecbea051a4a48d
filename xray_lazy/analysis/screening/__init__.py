"""Screening with a trained model: bags that alarm at a rate of false alarms, thresholds for it, and what is missed."""
