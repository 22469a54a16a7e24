"""Events that kill or hang a process: run in a child process, counted, limited in memory."""
