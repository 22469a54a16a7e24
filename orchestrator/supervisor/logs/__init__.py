"""What child processes print: from their pipes to lines, to files and back."""
