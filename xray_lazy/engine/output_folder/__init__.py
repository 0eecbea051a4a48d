"""The output folder as a run uses it: whose it is, what an earlier run left there, and its log."""
