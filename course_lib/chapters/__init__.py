"""What only one chapter uses: its exercises, and where needed its figures and measures."""
