"""What a fork template imports. Names are all that multiprocessing passes on."""
