"""The control API of a running `kpipe up`: its lock and socket, its server, its client."""
