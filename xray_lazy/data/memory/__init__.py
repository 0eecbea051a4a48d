"""Where records and batches are: packed, shared by the processes of a machine, on the way to a GPU."""
