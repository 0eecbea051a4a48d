"""The processes of a run: how many, where they meet, and how all of them end when one fails."""
