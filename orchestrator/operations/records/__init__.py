"""Reading records of topics: where to start, which ones, how far the reading is."""
