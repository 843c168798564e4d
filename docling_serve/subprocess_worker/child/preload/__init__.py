"""What a fork template imports. multiprocessing passes on nothing but names."""
